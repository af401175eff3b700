"""`sublet models check`: what a server at a URL can do, and which of its claims fail."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from sublet.output import JsonFlag, print_json, print_rows, say, waiting
from sublet.values.errors import InvalidInputError


def check(
    url: Annotated[str, typer.Argument(help="Where it answers, like http://127.0.0.1:8000/v1.")],
    model: Annotated[str, typer.Option(help="The model to ask for; the first that it lists, if left out.")] = "",
    key_variable: Annotated[str, typer.Option(help="The environment variable that holds the server's key.")] = "",
    claims: Annotated[
        str, typer.Option(help="Capabilities that must work, separated by commas, such as chat,tools.")
    ] = "",
    entry: Annotated[bool, typer.Option("--entry", help="Print the model's table for the catalog instead.")] = False,
    timeout_s: Annotated[float, typer.Option(min=1, max=3600, help="Seconds that an answer may take.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Try what a server at a URL can do, from this machine. The exit code is 1 if it breaks what it claims."""
    from sublet.conformance.urls.report import checked, counts, endpoint_of
    from sublet.conformance.urls.target import Target

    key = os.environ.get(key_variable) if key_variable else None
    if key_variable and not key:
        raise InvalidInputError(f"the environment variable {key_variable} is not set; set it to the server's key")
    if key and not (key.isascii() and key.isprintable()):
        raise InvalidInputError(
            f"the key in {key_variable} has a character that no header may have, such as a line break"
        )
    target = Target(endpoint_of(url), model, key, timeout_s)
    claimed = [name.strip() for name in claims.split(",") if name.strip()]
    with waiting(f"asking {url}"):
        report = checked(target, url, claimed)
    if as_json:
        print_json(report.as_dict())
    elif entry:
        say(report.entry(key_variable))
    else:
        columns = {"name": "ability", "verdict": "verdict", "said": "seen", "fails": ""}
        rows = [item.as_dict() | {"fails": "FAILS" if item.fails else ""} for item in report.findings]
        print_rows(rows, columns, "nothing was tried")
        say()
        say(f"{report.model}: {counts(report.findings)}")
        say(f"capabilities = [{', '.join(chr(34) + name + chr(34) for name in report.capabilities)}]")
    if not report.passed:
        raise typer.Exit(1)
