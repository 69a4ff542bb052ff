"""`python -m bench completion`: a short form of the program for the shell, with the tab key."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]


class Shell(StrEnum):
    """Those whose completion typer can answer."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


VARIABLE = "_BENCH_COMPLETE"
EXAMPLES = """Examples: `source <(python -m bench completion)` in bash, `source <(python -m bench completion zsh)`,
`python -m bench completion fish | source`; then `bench ru` and the tab key"""
SCRIPTS = {  # typer's scripts, for a program of several words; {command} runs it, {variable} makes it answer
    Shell.BASH: """\
bench() {{ {command} "$@"; }}
_complete_bench() {{
    local IFS=$'\\n'
    COMPREPLY=( $( COMP_WORDS="${{COMP_WORDS[*]}}" COMP_CWORD=$COMP_CWORD {variable}=complete_bash {command} ) )
}}
complete -o default -F _complete_bench bench
""",
    Shell.ZSH: """\
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}
bench() {{ {command} "$@" }}
_complete_bench() {{ eval $(_TYPER_COMPLETE_ARGS="${{words[1,$CURRENT]}}" {variable}=complete_zsh {command}) }}
compdef _complete_bench bench
""",
    Shell.FISH: """\
function bench; {command} $argv; end
complete --command bench --no-files \\
    --arguments "(env {variable}=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=(commandline -cp) {command})" \\
    --condition "env {variable}=complete_fish _TYPER_COMPLETE_FISH_ACTION=is-args _TYPER_COMPLETE_ARGS=(commandline -cp) {command}"
""",
}


def completion(shell: Annotated[Shell, typer.Argument()] = Shell.BASH) -> None:
    """Prints what a shell needs for `bench` as a short form of this program that completes commands and options with the tab key."""
    command = f"env PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} -m bench"
    typer.echo(SCRIPTS[shell].format(command=command, variable=VARIABLE), nl=False)
