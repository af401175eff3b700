"""`sublet audit`: who did what, when, and proof that the log was not changed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, time
from sublet.values.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what, when; export and proof.")

FORMATS = ("json", "cef")
By = Annotated[str, typer.Option("--by", help="Id of a person or key.")]
What = Annotated[str, typer.Option("--operation", help="Beginning of the operation's name, such as accounts.")]
Whom = Annotated[str, typer.Option("--organization", help="Id of the organization that it concerns.")]
Since = Annotated[str, typer.Option("--since", help="From this moment on, such as 2026-12-01T00:00:00Z.")]
Until = Annotated[str, typer.Option("--until", help="Before this moment.")]
Subject = Annotated[str, typer.Option("--subject", help="Id of the first thing that was changed.")]


@app.command("ls")
def list_audit(
    by: By = "",
    operation: What = "",
    organization: Whom = "",
    subject: Subject = "",
    since: Since = "",
    until: Until = "",
    as_json: JsonFlag = False,
) -> None:
    """List the entries of the audit log, newest first. Reading the log is itself recorded."""
    found = connect().document(
        "accounts.list_audit", query=_query(by, operation, organization, subject) | _times(since, until)
    )
    if as_json:
        print_json(found)
        return
    rows = [
        {**item, "who": item["actor"]["id"], "what": ", ".join(change["id"] for change in item["changes"][:2])}
        for item in found["entries"]
    ]
    columns: Columns = {
        "seq": "no.",
        "at": time("at"),
        "who": "who",
        "operation": "did",
        "what": "to",
        "source": "from",
    }
    print_rows(rows, columns, "the audit log is empty")


@app.command("export")
def export_audit(
    form: Annotated[str, typer.Option("--format", help="json (lines) or cef.")] = "json",
    by: By = "",
    operation: What = "",
    organization: Whom = "",
    subject: Subject = "",
    since: Since = "",
    until: Until = "",
) -> None:
    """Write every entry, one per line, newest first: JSON, or CEF for a SIEM."""
    if form not in FORMATS:
        raise InvalidInputError(f"--format is {form!r}; write one of {', '.join(FORMATS)}")
    query = _query(by, operation, organization, subject) | _times(since, until)
    for item in connect().collected("accounts.list_audit", query=query)["entries"]:
        say(json.dumps(item, sort_keys=True, ensure_ascii=False) if form == "json" else cef(item))


@app.command("verify")
def verify_audit(as_json: JsonFlag = False) -> None:
    """Verify the hash of every entry; exit code 1 if the log was changed."""
    found = connect().document("accounts.verify_audit")
    if as_json:
        print_json(found)
    elif found["ok"]:
        say(f"{found['entries']} entries are unchanged; the newest is {found['last']}, hash {found['head']}")
    else:
        say(f"entry {found['broken_at']} is wrong: {found['reason']}")
    if not found["ok"]:
        raise typer.Exit(1)


def cef(entry: dict[str, Any]) -> str:
    """An entry in ArcSight's Common Event Format, version 0."""
    head = ["CEF:0", "Sublet", "Sublet", "1", _head(entry["operation"]), _head(entry["operation"]), "3"]
    changed = " ".join(f"{change['kind']}:{change['id']}" for change in entry["changes"])
    fields = {
        "rt": entry["at"],
        "externalId": entry["seq"],
        "suser": entry["actor"]["id"],
        "src": entry["source"],
        "request": entry["path"],
        "cs1Label": "organization",
        "cs1": entry["organization_id"] or "",
        "cs2Label": "changed",
        "cs2": changed,
        "cs3Label": "sha256",
        "cs3": entry["sha256"],
    }
    return "|".join(head) + "|" + " ".join(f"{name}={_value(value)}" for name, value in fields.items() if value != "")


def _head(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _value(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("=", "\\=").replace("\r", " ").replace("\n", "\\n")


def _query(by: str, operation: str, organization: str, subject: str) -> dict[str, str | None]:
    return {
        "actor_id": by or None,
        "operation": operation or None,
        "organization_id": organization or None,
        "subject": subject or None,
    }


def _times(since: str, until: str) -> dict[str, str | None]:
    return {"since": since or None, "until": until or None}
