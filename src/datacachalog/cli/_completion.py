"""`catalog completion`: what has a shell to know so that it completes commands, options and datasets' names?"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ._output import print_lines


@click.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and datasets' names.

    \b
    Examples:
      eval "$(catalog completion bash)"     # in ~/.bashrc
      eval "$(catalog completion zsh)"      # in ~/.zshrc
      catalog completion fish > ~/.config/fish/completions/catalog.fish
    """  # noqa: D301  # \\b is click's mark for lines that stay as they are
    completion = get_completion_class(shell)
    if completion is None:  # what the choice allows is what click has
        raise click.UsageError(f"click knows no {shell}")
    print_lines(completion(ctx.find_root().command, {}, "catalog", "_CATALOG_COMPLETE").source())
