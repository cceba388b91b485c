"""The `catalog` command: `main` is its entry point, and says what to install where the command's library is missing."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command and end the process.

    The exit code is 0 for success, 1 for a failure, 2 for a wrong call, a wrong catalog or a missing extra, 3 if
    something was found that isn't as it should be, 130 after Ctrl-C, and 141 if nobody reads the output any more.
    """
    try:
        import click as _  # noqa: F401  # only whether it is there
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write("catalog: the command line needs an extra: pip install 'datacachalog[cli]'\n")
        sys.exit(2)

    from ._app import run

    sys.exit(run())
