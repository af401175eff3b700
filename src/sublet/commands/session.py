"""`sublet login`, `logout`, `profile` and `open`: which Sublet the commands talk to, and as whom."""

from __future__ import annotations

import getpass
import ipaddress
import sys
import webbrowser
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from sublet.client.clients import Client
from sublet.client.profiles import NAME_DEFAULT, Profile, Profiles, checked_name, target
from sublet.client.transport import checked_url
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.values.errors import InvalidInputError

KEY_CHARACTERS_MAX = 512

profile = typer.Typer(no_args_is_help=True, help="Profiles: the services that you are logged in to.")

ProfileName = Annotated[
    str, typer.Option("--profile", envvar="SUBLET_PROFILE", help="The profile's name; `default` if left out.")
]


def login(
    url: Annotated[str, typer.Argument(help="URL of Sublet, such as https://sublet.example.com.")],
    name: ProfileName = "",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="SUBLET_CA_FILE",
            help="Certificates (PEM) of the authorities to trust, such as `sublet tls init` makes.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Save the URL of a service and your key as a profile, after checking the key.

    You are prompted for the key; in a script, pipe it to standard input. It is kept in ~/.config/sublet, in a file for you
    alone. Commands use the profile of the last login; `--profile` and SUBLET_PROFILE name another, and SUBLET_URL with
    SUBLET_KEY stand before them all.
    """
    chosen = checked_name(name or NAME_DEFAULT)
    address = checked_url(url, "URL")
    if address.startswith("http://") and not _is_local(address):
        say(f"{address} is not HTTPS, so your key can be read on the network", err=True)
    trusted = str(ca_file.absolute()) if ca_file else ""
    key = _read_key()
    with Client(address, key, ca_file=trusted) as client:
        found = client.document("accounts.whoami")
    Profiles().save(Profile(chosen, address, key, trusted))
    if as_json:
        print_json({"profile": chosen, "url": address, **found})
    else:
        say(f"logged in to {address} as {found['role'] or found['organization_id']}; now using profile {chosen}")


def logout(
    name: ProfileName = "",
    as_json: JsonFlag = False,
) -> None:
    """Forget a profile and its key; the key stays valid until `sublet key revoke`."""
    profiles = Profiles()
    chosen = name or profiles.current()
    if not chosen:
        raise InvalidInputError("you are not logged in anywhere")
    profiles.remove(chosen)
    now = profiles.current()
    if as_json:
        print_json({"removed": chosen, "current": now or None})
    else:
        say(f"profile {chosen} was removed" + (f"; now using {now}" if now else ""))


@profile.command("ls")
def list_profiles(as_json: JsonFlag = False) -> None:
    """List profiles; keys are not shown."""
    profiles = Profiles()
    current = profiles.current()
    rows = [{"name": item.name, "url": item.url, "current": item.name == current} for item in profiles.all()]
    if as_json:
        print_json({"profiles": rows})
        return
    shown = [{**row, "current": "yes" if row["current"] else ""} for row in rows]
    columns = {"name": "profile", "url": "address", "current": "in use"}
    print_rows(shown, columns, "no profiles yet; create one with `sublet login URL`")


@profile.command("use")
def use_profile(
    name: Annotated[str, typer.Argument(help="Name of the profile, as shown by `sublet profile ls`.")],
) -> None:
    """Use this profile from now on."""
    profiles = Profiles()
    profiles.save(profiles.get(name))
    say(f"now using profile {name}")


def open_console(as_json: JsonFlag = False) -> None:
    """Open the console in the browser, or print its URL if there is no browser."""
    url = target().url + "/"
    opened = False if as_json else webbrowser.open(url)
    if as_json:
        print_json({"url": url})
    else:
        say(f"the console is at {url}" + ("" if opened else " (no browser found; open it yourself)"))


def _read_key() -> str:
    if sys.stdin.isatty():
        key = getpass.getpass("key: ")
    else:
        key = sys.stdin.readline(KEY_CHARACTERS_MAX + 2)
    key = key.strip()
    if not key or len(key) > KEY_CHARACTERS_MAX:
        raise InvalidInputError(
            "this is not a valid key; paste it exactly as it was shown, or pipe it to standard input"
        )
    return key


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
