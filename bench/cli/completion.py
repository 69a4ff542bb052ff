"""`python -m bench completion`: the program for the shell, with the tab key; in a checkout under a short name."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from typing import Annotated

import typer

from assay.bench.checkout import CHECKOUT


class Shell(StrEnum):
    """Those whose completion typer can answer."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


NAME = "bench" if CHECKOUT else "assay"
VARIABLE = "_BENCH_COMPLETE"
EXAMPLES = f"""Examples: `source <(python -m bench completion)` in bash, `source <(python -m bench completion zsh)`,
`python -m bench completion fish | source`; then `{NAME} ru` and the tab key"""
SCRIPTS = {  # typer's scripts, for a program of several words; {command} runs it, {variable} makes it answer
    Shell.BASH: """\
{name}() {{ {command} "$@"; }}
_complete_{name}() {{
    local IFS=$'\\n'
    COMPREPLY=( $( COMP_WORDS="${{COMP_WORDS[*]}}" COMP_CWORD=$COMP_CWORD {variable}=complete_bash {command} ) )
}}
complete -o default -F _complete_{name} {name}
""",
    Shell.ZSH: """\
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}
{name}() {{ {command} "$@" }}
_complete_{name}() {{ eval $(_TYPER_COMPLETE_ARGS="${{words[1,$CURRENT]}}" {variable}=complete_zsh {command}) }}
compdef _complete_{name} {name}
""",
    Shell.FISH: """\
function {name}; {command} $argv; end
complete --command {name} --no-files \\
    --arguments "(env {variable}=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=(commandline -cp) {command})" \\
    --condition "env {variable}=complete_fish _TYPER_COMPLETE_FISH_ACTION=is-args _TYPER_COMPLETE_ARGS=(commandline -cp) {command}"
""",
}


def completion(shell: Annotated[Shell, typer.Argument()] = Shell.BASH) -> None:
    """Prints what a shell needs to complete commands and options with the tab key: of `assay`, or in a checkout of `bench`, which it then defines."""
    python = shlex.quote(sys.executable)
    command = f"env PYTHONPATH={shlex.quote(str(CHECKOUT))} {python} -m bench" if CHECKOUT else f"{python} -P -m assay"
    typer.echo(SCRIPTS[shell].format(name=NAME, command=command, variable=VARIABLE), nl=False)
