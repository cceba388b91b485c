"""How does a request for a dataset become a path? In stages, each a module that hands the next one a value.

resolve → plan → transfer → verify → publish → report

`resolve` only reads, `plan` only thinks, `transfer` makes `Staged` bytes, `verify` is the only maker of `Verified`,
and `publish` takes nothing else. `requests` is how the stages reach the remote. Only `_fetching` knows the order.
"""
