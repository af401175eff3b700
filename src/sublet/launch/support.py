"""What a bug report needs, in one file without secrets or people: versions, settings, checks, row counts, the ends of the logs."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import sys
import tarfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import ArgumentError

from sublet import __version__
from sublet.config.logs import mask
from sublet.config.settings import Settings
from sublet.launch import doctor
from sublet.store import Store
from sublet.store.metadata import metadata as tables
from sublet.values.errors import ConflictError, SubletError

LOG_BYTES_MAX = 512 * 1024
"""Of each log, from its end."""
LOGS_MAX = 40
SECRET_LENGTH_MIN = 4
REDACTED = "[redacted]"
_SECRET_NAME = re.compile(r"secret|password|token|key$|authorization|credential|private", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {REDACTED}"),
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*)?"), REDACTED),
    (re.compile(r"(?i)\b(secret|token|password|code|state|client_secret)=[^\s&\"']+"), rf"\1={REDACTED}"),
    (re.compile(r"(?<=://)[^/\s@\"']+@"), f"{REDACTED}@"),
    (re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"), "[address]"),
    (re.compile(r"\b(?!127\.)(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}\b"), r"\1.x"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL), REDACTED),
)


class Redaction:
    """Removes from text what the settings hold as secrets, and what looks like one or like a person."""

    def __init__(self, settings: Settings) -> None:
        held = [*_secrets(settings), *_password_in(settings.database.url)]
        self._secrets = sorted({value for value in held if len(value) >= SECRET_LENGTH_MIN}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """`text` without them."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        text = mask(text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def document(self, value: Any, name: str = "") -> Any:
        """The same of every text in a JSON document; what a secret's name stands before is removed whole."""
        if isinstance(value, dict):
            return {str(key): self.document(item, str(key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.document(item, name) for item in value]
        if isinstance(value, str) and value and _SECRET_NAME.search(name):
            return REDACTED
        return self.text(value) if isinstance(value, str) else value


def bundle(settings: Settings, path: Path) -> list[str]:
    """Write the bundle, readable by its owner alone; the names of what is inside. Raises ConflictError where the file exists,
    OSError."""
    redaction = Redaction(settings)
    names = []
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConflictError(f"{path} already exists; choose another file with --out") from error
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in _contents(settings, redaction):
            entry = tarfile.TarInfo(f"sublet-support/{name}")
            raw = content.encode("utf-8", "replace")
            entry.size, entry.mode = len(raw), 0o600
            archive.addfile(entry, io.BytesIO(raw))
            names.append(name)
    return names


def _contents(settings: Settings, redaction: Redaction) -> Iterator[tuple[str, str]]:
    yield "versions.json", _json(_versions())
    yield "settings.json", _json(redaction.document(settings.model_dump(mode="json")))
    checks = [check.as_dict() for check in doctor.examine(settings)]
    yield "doctor.json", _json(redaction.document(checks))
    yield "database.json", _json(redaction.document(_database(settings)))
    folder = settings.data_dir / "logs"
    for log in sorted(folder.glob("*.log*"))[:LOGS_MAX] if folder.is_dir() else ():
        yield f"logs/{log.name}", redaction.text(_end_of(log))


def _versions() -> dict[str, Any]:
    installed = {found.name.lower(): found.version for found in metadata.distributions() if found.name}
    return {
        "sublet": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": dict(sorted(installed.items())),
    }


def _database(settings: Settings) -> dict[str, Any]:
    """Its kind, its revision, and how many rows each table has; or why that can't be read."""
    path = settings.database_url.removeprefix("sqlite:///")
    if path != settings.database_url and not Path(path).is_file():
        return {"missing": "there is no database yet"}
    try:
        store = Store(settings.database_url)
        try:
            with store.read() as connection:
                revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
                counts = {
                    table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                    for table in tables.sorted_tables
                }
        finally:
            store.close()
    except SubletError as error:
        return {"unreadable": error.message}
    except Exception as error:
        return {"unreadable": str(error).splitlines()[0][:200]}
    return {"kind": "sqlite" if path != settings.database_url else "postgresql", "revision": revision, "rows": counts}


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES_MAX))
            found = file.read(LOG_BYTES_MAX)
    except OSError as error:
        return f"can't be read: {error.strerror}\n"
    # The first line may be cut in the middle of a secret, which then looks like none.
    return (found if size <= LOG_BYTES_MAX else found.partition(b"\n")[2]).decode("utf-8", "replace")


def _secrets(value: Any) -> Iterator[str]:
    """Every secret that the settings hold, wherever it stands."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
            found = getattr(value, name)
            if name.endswith("_file") and isinstance(found, Path) and _SECRET_NAME.search(name):
                yield from _secret_in(found)
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, str) and _SECRET_NAME.search(str(name)):
                yield item
            yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)


def _password_in(url: str) -> Iterator[str]:
    try:
        yield str(make_url(url).password or "") if url else ""
    except ArgumentError:
        # No URL at all: then it is not known what in it is secret.
        yield url


def _secret_in(path: Path) -> Iterator[str]:
    try:
        yield path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
