"""``loopgrid completion``: what a shell needs to complete commands, options, and names of profiles."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Final

import typer

# What typer's own --show-completion prints; a command of its own says which shell, and edits nobody's files.
from typer._completion_classes import completion_init
from typer._completion_shared import get_completion_script

VARIABLE: Final = "_LOOPGRID_COMPLETE"
"""Set by the script; the command line then answers with completions."""


class Shell(StrEnum):
    """A shell with a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to print it for.")],
) -> None:
    r"""Print a shell's script for completion.

    It completes commands, options, and names of profiles.

    \b
    bash, in ~/.bashrc:       source <(loopgrid completion bash)
    zsh, after compinit:      source <(loopgrid completion zsh)
    fish:  loopgrid completion fish > ~/.config/fish/completions/loopgrid.fish
    """
    script = get_completion_script(prog_name="loopgrid", complete_var=VARIABLE, shell=shell.value)
    sys.stdout.write(script + "\n")


def prepare() -> None:
    """Let the command line answer what the scripts ask."""
    completion_init()
