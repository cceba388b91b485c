"""How do other libraries use a catalog? A module for each, imported by that library or by whoever wants it."""
