"""`sublet desk init`: a commented case that runs as it is."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sublet.desk.errors import CaseError


def template_text() -> str:
    """The case that `init` writes."""
    return resources.files("sublet.desk").joinpath("template.toml").read_text(encoding="utf-8")


def write_template(path: Path) -> None:
    """Write the case to `path`. Raises CaseError where a file is already there, or the path can't be written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template_text())
    except FileExistsError as error:
        raise CaseError(f"{path} is already there; name another file, or move that one away") from error
    except OSError as error:
        raise CaseError(f"{path}: the file can't be written ({error.strerror}); name another path") from error
