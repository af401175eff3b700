"""`sublet tls`: a certificate for HTTPS, signed by an authority of one's own. Works on files alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.output import JsonFlag, print_fields, print_json, say

if TYPE_CHECKING:
    from sublet.tls.authority import Authority, Certificate

OWN_NAMES = ("localhost", "127.0.0.1", "::1")

app = typer.Typer(no_args_is_help=True, help="HTTPS: a certificate of your own authority.")

Folder = Annotated[
    Path | None,
    typer.Option(help="Folder of the authority and the certificate; `tls` in the data directory by default."),
]


@app.command()
def init(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Host names and addresses by which clients call this machine, besides localhost."),
    ] = None,
    folder: Folder = None,
    as_json: JsonFlag = False,
) -> None:
    """Create an authority and a certificate for this machine.

    The authority is valid for ten years and signs only for these names. The certificate is valid for 13 months; `sublet tls renew`
    makes the next one. Clients trust the authority by its file ca.pem, which is not secret.
    """
    authority, now = _authority(folder)
    made = authority.create([*(names or ()), *OWN_NAMES], now)
    if as_json:
        print_json(_document(authority, made, now))
        return
    _print(authority, made)
    say("")
    say("Write this into sublet.toml and start Sublet again:")
    say("")
    say(f'[tls]\ncertificate = "{authority.certificate}"\nprivate_key = "{authority.private_key}"')
    say("")
    say(
        f"Clients need {authority.trusted.name}: `sublet login --ca-file {authority.trusted.name} https://…`; SDKs take it from"
    )
    say("SSL_CERT_FILE (OpenAI, Anthropic), AWS_CA_BUNDLE (boto3) or NODE_EXTRA_CA_CERTS (Node). Keep ca.key secret.")


@app.command()
def renew(folder: Folder = None, as_json: JsonFlag = False) -> None:
    """Sign a new certificate for the same names. Running processes use it within seconds."""
    authority, now = _authority(folder)
    made = authority.renew(now)
    if as_json:
        print_json(_document(authority, made, now))
    else:
        _print(authority, made)


@app.command()
def show(folder: Folder = None, as_json: JsonFlag = False) -> None:
    """Show the certificate: its names, its dates, its fingerprint."""
    authority, now = _authority(folder)
    found = authority.current()
    if as_json:
        print_json(_document(authority, found, now))
        return
    _print(authority, found)
    if found.expires_soon(now):
        say("it expires soon: run `sublet tls renew`", err=True)


def _authority(folder: Path | None) -> tuple[Authority, Any]:
    # Settings and cryptography take longer to load than a command's help should.
    from sublet.config import settings
    from sublet.tls.authority import Authority
    from sublet.values.clock import SystemClock

    chosen = folder or settings.load().data_dir.expanduser() / "tls"
    return Authority(chosen.absolute()), SystemClock().now()


def _document(authority: Authority, found: Certificate, now: Any) -> dict[str, Any]:
    from sublet.values.clock import format_time

    return {
        "names": list(found.names),
        "not_before": format_time(found.not_before),
        "not_after": format_time(found.not_after),
        "expires_soon": found.expires_soon(now),
        "sha256": found.sha256,
        "certificate": str(authority.certificate),
        "private_key": str(authority.private_key),
        "ca_file": str(authority.trusted),
    }


def _print(authority: Authority, found: Certificate) -> None:
    from sublet.shown import time_text
    from sublet.values.clock import format_time

    print_fields(
        {
            "names": ", ".join(found.names),
            "valid until": time_text(format_time(found.not_after)),
            "fingerprint": found.sha256,
            "certificate": authority.certificate,
            "authority": authority.trusted,
        }
    )
