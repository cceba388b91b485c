"""`catalog demo`: how is the demo called, and what does it say where its extra isn't installed?"""

from __future__ import annotations

import warnings
from pathlib import Path

import click


class _MissingExtraError(click.ClickException):
    """A library of the demo's isn't installed."""

    exit_code = 2


@click.command(name="demo")
@click.option(
    "--keep",
    "kept_dir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave the cache in DIR, a new or empty directory, to look around in it.",
)
def command(kept_dir: Path | None) -> None:
    """Show the life of a catalog on a made-up S3 server.

    Starts an S3 server inside this process, fills it with a dozen datasets (74 MB), fetches them into a temporary
    cache, changes one, and fetches again. Needs no account and no network, and takes a few seconds.
    """
    if kept_dir is not None and kept_dir.is_dir() and any(kept_dir.iterdir()):
        raise click.BadParameter(
            f"{kept_dir} is not empty, and the demo starts with an empty cache", param_hint="--keep"
        )
    try:
        # moto warns that a part of it is missing, in words that don't name our extra, before it fails.
        with warnings.catch_warnings(action="ignore"):
            from ._demo_story import tell
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("datacachalog"):
            raise
        missing = error.name.partition(".")[0]
        raise _MissingExtraError(
            f"the demo needs an extra: pip install 'datacachalog[demo]' (there is no {missing})"
        ) from error
    tell(kept_dir)
