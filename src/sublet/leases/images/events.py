"""Events of images in the outbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from sublet.leases.images.model import Image
from sublet.store.events import EventKind, declare
from sublet.values.clock import format_time


@dataclass(frozen=True, slots=True)
class ImageChanged:
    """An image, its digest, and what happened to it in one sentence."""

    image: str
    name: str
    digest: str
    reason: str


READY = declare("image.ready", ImageChanged, "An image was imported, and leases can run on it.", subject="image")
FAILED = declare("image.failed", ImageChanged, "An image could not be imported.", subject="image")
EXPIRED = declare(
    "image.expired", ImageChanged, "An image was removed because no lease has used it for long.", subject="image"
)


def record(connection: Connection, kind: EventKind, image: Image, reason: str, now: datetime) -> None:
    payload = ImageChanged(image.id, image.name, image.digest, reason)
    kind.record(connection, payload, now, organization_id=image.organization_id, key=(image.id, format_time(now)))
