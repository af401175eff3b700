"""An image on this machine, for a lease that runs on it: mounted by root, unpacked for an ordinary user."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.image import ImageOrder
from sublet.leases.backends.local import runtime
from sublet.leases.images.files import ImageFiles


def image_part(directory: Path | None, image: ImageOrder, *, mounts: bool) -> dict[str, Any]:
    """What of a lease's spec is for its image. Raises BackendFailedError where this machine can't run on it."""
    programs = runtime.host_programs()
    if programs is None:
        raise BackendFailedError("this machine can't run leases on images: its Python has no loader of its own")
    found = ImageFiles.of(directory, image.id) if directory is not None else None
    place = None if found is None else found.image if mounts else found.tree
    if found is None or place is None or not place.exists():
        raise BackendFailedError(f"image {image.name} is not on this machine")
    return {
        "image": asdict(image) | {"file": str(found.image), "tree": str(found.tree)},
        "host_loader": programs.loader,
        "host_libraries": programs.libraries,
        "host_binds": [list(pair) for pair in programs.binds],
    }
