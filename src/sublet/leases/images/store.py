"""The SQL of images."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update

from sublet.fleet.inventory import pool_nodes
from sublet.leases.images.model import Image, ImageState
from sublet.leases.states import TERMINAL
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import images, leases

IMAGES = Listing("images", (images.c.created_at, images.c.id), descending=True)
_GONE = ImageState.REMOVED.value
_OVER = [state.value for state in TERMINAL]


def insert_image(connection: Connection, image: Image) -> None:
    connection.execute(
        insert(images).values(
            id=image.id,
            organization_id=image.organization_id,
            name=image.name,
            state=image.state.value,
            project=image.project,
            shared=int(image.shared),
            node_id=image.node_id,
            sha256=image.sha256,
            upload_bytes=image.upload_bytes,
            created_at=image.created_at,
            used_at=image.used_at,
        )
    )


def image(connection: Connection, id_or_name: str, organization_id: str | None, *, own: bool = False) -> Image | None:
    """An image that is not removed, by its id, or by its name in an organization; the organization's own before the
    operator's. `own` leaves out the operator's."""
    query = select(images).where(images.c.state != _GONE)
    if organization_id is None:
        query = query.where(images.c.id == id_or_name)
    else:
        named = (images.c.id == id_or_name) | (images.c.name == id_or_name)
        query = query.where(named, images.c.organization_id == organization_id if own else _seen_by(organization_id))
        query = query.order_by((images.c.organization_id == organization_id).desc())
    row = connection.execute(query.limit(1)).first()
    return _image(row) if row else None


def page(connection: Connection, organization_id: str | None, wanted: PageRequest) -> Page[Image]:
    """Images that are not removed, newest first; with an organization, only those that it can use."""
    query = select(images).where(images.c.state != _GONE)
    if organization_id is not None:
        query = query.where(_seen_by(organization_id))
    return IMAGES.read(connection, query, wanted).map(_image)


def held(connection: Connection, organization_id: str) -> tuple[int, int]:
    """The number and bytes of an organization's images. Uploads count with their announced size."""
    size = func.coalesce(func.sum(func.max(images.c.bytes, images.c.upload_bytes)), 0)
    if connection.dialect.name == "postgresql":
        size = func.coalesce(func.sum(func.greatest(images.c.bytes, images.c.upload_bytes)), 0)
    query = select(func.count(), size).where(images.c.organization_id == organization_id, images.c.state != _GONE)
    count, total = connection.execute(query).one()
    return int(count), int(total)


def in_states(connection: Connection, node_id: str, states: Iterable[ImageState], limit: int) -> list[Image]:
    """Images of a node in one of the states, oldest first."""
    query = select(images).where(images.c.node_id == node_id, images.c.state.in_([state.value for state in states]))
    return [_image(row) for row in connection.execute(query.order_by(images.c.created_at, images.c.id).limit(limit))]


def unused(
    connection: Connection, node_id: str, states: Iterable[ImageState], before: datetime, limit: int
) -> list[Image]:
    """Images of a node that were last used before then and do not belong to the operator."""
    query = select(images).where(
        images.c.node_id == node_id,
        images.c.state.in_([state.value for state in states]),
        images.c.used_at < before,
        images.c.shared == 0,
    )
    return [_image(row) for row in connection.execute(query.order_by(images.c.used_at).limit(limit))]


def nodes_of(connection: Connection, pool_id: str) -> set[str]:
    """The nodes of a pool; empty if it was created without a node."""
    return set(connection.execute(select(pool_nodes.c.node_id).where(pool_nodes.c.pool_id == pool_id)).scalars())


def lease_on(connection: Connection, image_id: str) -> str | None:
    """A lease that runs on the image and is not over."""
    query = select(leases.c.id).where(leases.c.image_id == image_id, leases.c.state.notin_(_OVER))
    return connection.execute(query.limit(1)).scalar()


def leases_on(connection: Connection, image_ids: Iterable[str], organization_id: str | None) -> dict[str, list[str]]:
    """The leases that are not over of each image; with an organization, only its own."""
    query = select(leases.c.image_id, leases.c.id).where(
        leases.c.image_id.in_(list(image_ids)), leases.c.state.notin_(_OVER)
    )
    if organization_id is not None:
        query = query.where(leases.c.organization_id == organization_id)
    found: dict[str, list[str]] = {}
    for row in connection.execute(query.order_by(leases.c.created_at)):
        found.setdefault(row.image_id, []).append(row.id)
    return found


def change(connection: Connection, image_id: str, before: Iterable[ImageState], **values: Any) -> bool:
    """Change an image if it is in one of these states. Returns False if it no longer is."""
    states = [state.value for state in before]
    done = connection.execute(
        update(images).where(images.c.id == image_id, images.c.state.in_(states)).values(**values)
    )
    return done.rowcount == 1


def use(connection: Connection, image_id: str, now: datetime) -> bool:
    """A lease uses the image. Returns False if it is no longer ready. The row is locked until the transaction ends, so that
    the image can't be removed meanwhile."""
    return change(connection, image_id, [ImageState.READY], used_at=now, leased_at=now)


def _seen_by(organization_id: str) -> ColumnElement[bool]:
    return or_(images.c.organization_id == organization_id, images.c.shared == 1)


def _image(row: Row[Any]) -> Image:
    return Image(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        state=ImageState(row.state),
        shared=bool(row.shared),
        node_id=row.node_id,
        sha256=row.sha256,
        upload_bytes=row.upload_bytes,
        received_bytes=row.received_bytes,
        created_at=row.created_at,
        used_at=row.used_at,
        bytes=row.bytes,
        files=row.files,
        manifest=row.manifest or "",
        shell=row.shell or "",
        environment=row.environment or {},
        progress=row.progress,
        last_error=row.last_error,
        project=row.project,
        leased_at=row.leased_at,
    )
