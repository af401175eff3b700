"""Where a person's services and keys are kept: `~/.config/sublet/profiles.json`, for its owner alone."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sublet.client.transport import checked_url
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

PROFILE_VARIABLE = "SUBLET_PROFILE"
URL_VARIABLE = "SUBLET_URL"
KEY_VARIABLE = "SUBLET_KEY"
CA_VARIABLE = "SUBLET_CA_FILE"
URL_DEFAULT = "http://127.0.0.1:8080"
NAME_DEFAULT = "default"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
PROFILES_MAX = 100
FILE_BYTES_MAX = 1 << 18


@dataclass(frozen=True, slots=True)
class Profile:
    """A service and the key for it."""

    name: str
    url: str
    key: str
    ca_file: str = ""
    """Certificates of the authorities to trust there; empty: this machine's."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a command talks to, and where that was said: `SUBLET_KEY`, or the profile of a name."""

    url: str
    key: str
    origin: str
    ca_file: str = ""


class Profiles:
    """The file of profiles. Read and written whole; a write replaces it at once, so a crash leaves the old one or the new."""

    def __init__(self, folder: Path | None = None) -> None:
        base = os.environ.get("XDG_CONFIG_HOME")
        self.path = (folder or (Path(base) if base else Path.home() / ".config") / "sublet") / "profiles.json"

    def all(self) -> list[Profile]:
        """Every profile, by name. Raises ConflictError where others may read the file, or it is not as it was written."""
        return sorted(self._read()[1].values(), key=lambda profile: profile.name)

    def current(self) -> str:
        """The profile that is used where none is named: the one of the last login."""
        return self._read()[0]

    def get(self, name: str) -> Profile:
        """Raises NotFoundError."""
        found = self._read()[1].get(name)
        if found is None:
            raise NotFoundError(
                f"there is no profile {name!r}; `sublet profile ls` lists profiles, `sublet login` creates one"
            )
        return found

    def save(self, profile: Profile) -> None:
        """Add or replace a profile; it is the current one from now on. Raises InvalidInputError, ConflictError."""
        checked_name(profile.name)
        _, profiles = self._read()
        if profile.name not in profiles and len(profiles) >= PROFILES_MAX:
            raise InvalidInputError(
                f"there are already {PROFILES_MAX} profiles, the maximum; remove one with `sublet logout`"
            )
        self._write(profile.name, {**profiles, profile.name: profile})

    def remove(self, name: str) -> None:
        """Raises NotFoundError."""
        self.get(name)
        current, profiles = self._read()
        del profiles[name]
        self._write(current if current in profiles else next(iter(sorted(profiles)), ""), profiles)

    def _read(self) -> tuple[str, dict[str, Profile]]:
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise ConflictError(f"other users can read the keys in {self.path}; run `chmod 600 {self.path}`")
                content = json.loads(file.read(FILE_BYTES_MAX))
            profiles = {
                name: Profile(name, str(item["url"]), str(item["key"]), str(item.get("ca_file", "")))
                for name, item in content["profiles"].items()
            }
            return str(content["current"]), profiles
        except FileNotFoundError:
            return "", {}
        except OSError as error:
            raise ConflictError(f"{self.path} can't be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConflictError(f"{self.path} is not a valid profile file; remove it and log in again") from error

    def _write(self, current: str, profiles: dict[str, Profile]) -> None:
        kept = {
            name: {"url": item.url, "key": item.key, "ca_file": item.ca_file} for name, item in sorted(profiles.items())
        }
        text = json.dumps({"current": current, "profiles": kept}, indent=2) + "\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made by mkstemp, a file is its owner's alone from its first moment.
            handle, made = tempfile.mkstemp(prefix=".profiles-", dir=self.path.parent)
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(made).replace(self.path)
            except BaseException:
                Path(made).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ConflictError(f"{self.path} can't be written ({error.strerror})") from error


def checked_name(name: str) -> str:
    """Raises InvalidInputError."""
    if not NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} is not a valid profile name; use up to 40 letters, digits, dots and dashes")
    return name


def target() -> Target:
    """What commands talk to: SUBLET_URL and SUBLET_KEY where they are set, else the profile that SUBLET_PROFILE names, else the
    current one.

    SUBLET_CA_FILE names the authorities to trust before the profile does. A profile's key is sent to the profile's address
    alone: with another SUBLET_URL a SUBLET_KEY is needed. Raises InvalidInputError where there is no key, NotFoundError for a
    profile that there is not.
    """
    url, key = os.environ.get(URL_VARIABLE, ""), os.environ.get(KEY_VARIABLE, "")
    ca_file = os.environ.get(CA_VARIABLE, "")
    if url:
        url = checked_url(url, URL_VARIABLE)
    if url and key:
        return Target(url, _checked_key(key), KEY_VARIABLE, ca_file)
    profiles = Profiles()
    name = os.environ.get(PROFILE_VARIABLE, "") or profiles.current()
    found = profiles.get(name) if name else None
    if key:
        trusted = ca_file or (found.ca_file if found else "")
        return Target(found.url if found else URL_DEFAULT, _checked_key(key), KEY_VARIABLE, trusted)
    if found is None:
        raise InvalidInputError(
            f"log in with `sublet login URL`, or set {KEY_VARIABLE} to your key (and {URL_VARIABLE} to the address of Sublet)"
        )
    if url and url != found.url:
        raise InvalidInputError(
            f"{URL_VARIABLE} is {url}, and the key of profile {found.name!r} is for {found.url}; set {KEY_VARIABLE} too"
        )
    return Target(found.url, found.key, f"profile {found.name}", ca_file or found.ca_file)


def _checked_key(key: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise InvalidInputError(
            f"{KEY_VARIABLE} contains characters that are not allowed in a key; copy the key exactly as it was shown"
        )
    return key
