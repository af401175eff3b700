"""`sublet support`: what a bug report needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sublet.output import JsonFlag, print_json, say

app = typer.Typer(no_args_is_help=True, help="Bug reports: one file without secrets.")


@app.callback()
def support() -> None:
    """Bug reports: one file without secrets."""


@app.command("bundle")
def bundle(
    out: Annotated[Path, typer.Option("--out", help="File to write; it must not exist.")] = Path(
        "sublet-support.tar.gz"
    ),
    as_json: JsonFlag = False,
) -> None:
    """Write versions, settings, checks, row counts and the ends of the logs to one file, without secrets and addresses."""
    from sublet.config import settings
    from sublet.launch.support import bundle as write

    names = write(settings.load(), out)
    if as_json:
        print_json({"path": str(out), "files": names})
        return
    say(f"{out} has {len(names)} files: {', '.join(names[:4])}{' and logs' if len(names) > 4 else ''}")
    say(
        "Secrets, e-mail addresses and the ends of IP addresses are removed; names of organizations may remain in logs."
    )
