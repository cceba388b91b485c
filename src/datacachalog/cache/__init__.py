"""Where do the copies lie, and when is one of them good? In a directory of plain files that anybody can read."""

from ._file_cache import FileCache

__all__ = ["FileCache"]
