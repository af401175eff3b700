"""The `sublet` command: mounts every domain's commands, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sublet import __version__
from sublet.commands import Commands
from sublet.values.errors import SubletError

EXIT_BAD_INPUT = 2
EXIT_FAILED = 1

app = typer.Typer(
    name="sublet",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "Rents out the accelerators that their owner is not using, and gives them back the moment the owner needs them.\n\n"
        "own `pool` · need `demand` · spare `surplus`, `record`, `shadow`, `backtest` · sell `lease`, `models` · "
        "earn `ledger`, `prices` · worth `desk`\n\n"
        "`sublet demo` plays all of it on this machine; `sublet up` runs it until Ctrl-C; `sublet doctor` says what this "
        "machine can do. Settings come from `sublet.toml` and from `SUBLET_…` variables; commands that ask a running system "
        "take its address and your key from `sublet login`, or from `SUBLET_URL` and `SUBLET_KEY`."
    ),
)


def _version(show: bool) -> None:
    if show:
        from sublet.output import say

        say(f"sublet {__version__}")
        raise typer.Exit


@app.callback()
def root(
    config: Annotated[
        Path | None, typer.Option(envvar="SUBLET_CONFIG", help="Settings file; by default ./sublet.toml if it exists.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(envvar="SUBLET_PROFILE", help="Profile to use; the one of the last login by default.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if profile:
        os.environ["SUBLET_PROFILE"] = profile
    if config is not None:
        os.environ["SUBLET_CONFIG"] = str(config.absolute())


def mount() -> typer.Typer:
    """The whole command."""
    return app


def main() -> None:
    """The entry point: 0 done, 1 failed, 2 bad input."""
    try:
        app()
    except SubletError as error:
        from sublet.output import say_error

        say_error(f"sublet: {error.message}")
        sys.exit(EXIT_BAD_INPUT if 400 <= error.status < 500 else EXIT_FAILED)
    except BrokenPipeError:
        # The reader (head, less) has enough; that is no failure.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
