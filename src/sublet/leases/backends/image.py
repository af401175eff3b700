"""The image that a lease runs on, as a backend is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """`digest` names the contents, `shell` is the path of the shell in it, and `environment` what its sessions get."""

    id: str
    name: str
    digest: str
    shell: str = "/bin/sh"
    environment: Mapping[str, str] = field(default_factory=dict)
