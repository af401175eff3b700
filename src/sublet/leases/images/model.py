"""The model of an image: its states and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, UnavailableError

MIB = 1 << 20
PART_BYTES_MAX = 8 * MIB
"""The most that one request of an upload carries."""
ENVIRONMENT_BYTES_MAX, VARIABLES_MAX = 16_384, 64
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,58}[a-z0-9])?")
_HASH = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_OWN = frozenset({"HOME", "USER", "LOGNAME", "SHELL", "TERM", "PWD", "HOSTNAME", "MAIL", "LD_PRELOAD", "LD_AUDIT"})


class ImageRefusedError(InvalidInputError):
    """The image can't be used; the message says what in it is wrong."""

    code = "image_refused"


class ImageInUseError(ConflictError):
    """A lease that is not over runs on the image; end that lease, or wait for its end."""

    code = "image_in_use"


class ImageQuotaError(LimitExceededError):
    """Images of your organization would exceed what the operator allows; remove one, or import a smaller one."""

    code = "image_quota"


class ImageToolsMissingError(UnavailableError):
    """This machine can't make images: the package squashfs-tools is missing; ask the operator to install it."""

    code = "image_tools_missing"


class ImageState(StrEnum):
    """UPLOADING until every byte is received, then IMPORTING until the root file system is made. If FAILED, `last_error` is
    the reason."""

    UPLOADING = "uploading"
    IMPORTING = "importing"
    READY = "ready"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits on an organization's images and on a single image. `ratio_max` limits the uncompressed size as a multiple of the
    size. An image is removed after `unused_s` seconds without a lease (0: never)."""

    mib_max: int = 20_480
    count_max: int = 20
    upload_mib_max: int = 8_192
    unpacked_mib_max: int = 32_768
    files_max: int = 500_000
    ratio_max: int = 200
    unused_s: int = 0
    shared: bool = False
    """Every node sees the same directory of images."""

    @property
    def unpacked_bytes_max(self) -> int:
        return self.unpacked_mib_max * MIB


@dataclass(frozen=True, slots=True)
class Image:
    """A root file system. `sha256` is that of the uploaded file, `manifest` the digest of its OCI manifest, and `bytes` its
    size on the disk of `node_id`. A `shared` image belongs to the operator and can be used by everybody."""

    id: str
    organization_id: str
    name: str
    state: ImageState
    shared: bool
    node_id: str
    sha256: str
    upload_bytes: int
    received_bytes: int
    created_at: datetime
    used_at: datetime
    bytes: int = 0
    files: int = 0
    manifest: str = ""
    shell: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    progress: int = 0
    last_error: str | None = None
    project: str = ""
    """The project of the key that imported it; empty for the organization itself."""
    leased_at: datetime | None = None
    """When a lease last took it; `used_at` is when it was last of use to anybody, its import included."""

    @property
    def digest(self) -> str:
        """Identifies the contents: the manifest's digest if there is one, or else the file's."""
        return self.manifest or f"sha256:{self.sha256}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "name": self.name,
            "state": self.state.value,
            "shared": self.shared,
            "digest": self.digest,
            "sha256": self.sha256,
            "upload_bytes": self.upload_bytes,
            "received_bytes": self.received_bytes,
            "progress": self.progress,
            "bytes": self.bytes,
            "files": self.files,
            "shell": self.shell,
            "environment": dict(self.environment),
            "last_error": self.last_error,
            "created_at": format_time(self.created_at),
            "project": self.project or None,
            "used_at": format_time(self.leased_at) if self.leased_at else None,
        }


def checked_name(text: str) -> str:
    """Raises InvalidInputError."""
    if not _NAME.fullmatch(text) or text.startswith("img_"):
        raise InvalidInputError(
            "an image's name has 1 to 60 lower-case letters, digits, dots, hyphens and underscores, "
            "with a letter or digit at its ends",
            field="name",
        )
    return text


def checked_hash(text: str) -> str:
    """Raises InvalidInputError."""
    if not _HASH.fullmatch(text):
        raise InvalidInputError("sha256 has 64 lower-case hexadecimal digits, as sha256sum prints them", field="sha256")
    return text


def usable_environment(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The variables of an image's environment that a session gets: printable, within bounds, and not reserved by Sublet or the
    session."""
    found: dict[str, str] = {}
    size = 0
    for name, value in pairs:
        size += len(name) + len(value) + 2
        if len(found) >= VARIABLES_MAX or size > ENVIRONMENT_BYTES_MAX:
            break
        usable = _VARIABLE.fullmatch(name) and name not in _OWN and not name.startswith("SUBLET_")
        if usable and value.isascii() and value.isprintable() and not set(value) & set('"\\'):
            found[name] = value
    return found
