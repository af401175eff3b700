"""Imports images, lists them, and deletes everything of those that are removed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import Connection

from sublet.leases.backends.image import ImageOrder
from sublet.leases.images import events
from sublet.leases.images import store as sql
from sublet.leases.images.convert import PROGRAM
from sublet.leases.images.files import ImageFiles
from sublet.leases.images.importing import Import
from sublet.leases.images.model import (
    MIB,
    PART_BYTES_MAX,
    Image,
    ImageInUseError,
    ImageLimits,
    ImageQuotaError,
    ImageState,
    ImageToolsMissingError,
    checked_hash,
    checked_name,
)
from sublet.leases.projects import refuse_other
from sublet.leases.redaction import told_to_tenant
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, StorageFullError, UnavailableError
from sublet.values.ids import new_id

FEATURE = "images"
PER_ROUND = 20
ABANDONED_S = 24 * 3600
"""An upload that nobody has continued for so long is removed."""
IMPORT_S_MAX = 2 * 3600
"""An import that takes longer hangs, and the others wait for it."""
_S = ImageState
_log = structlog.get_logger("sublet.leases")


def _no_node() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class ImageSite:
    """Where this process stores images: nowhere without a `directory`. `unpack` means that the machine can't mount them."""

    limits: ImageLimits = field(default_factory=ImageLimits)
    directory: Path | None = None
    node_id: Callable[[], str | None] = _no_node
    unpack: bool = False


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to upload: a tar, or an OCI layout in a tar, with its size in bytes and its SHA-256."""

    name: str
    size_bytes: int
    sha256: str
    project: str = ""


class Images:
    """The use cases of images. A quote names the image of a lease."""

    def __init__(self, store: Store, site: ImageSite) -> None:
        self._store, self._site = store, site
        self._importing: Import | None = None
        self._import_began: datetime | None = None
        self._receiving = threading.Lock()

    def create(self, organization_id: str, wanted: NewImage, *, shared: bool = False) -> Image:
        """Create an image; its bytes follow. The same name and bytes again return the same image, so that an upload can
        resume. A failed image starts over. Raises InvalidInputError, ConflictError, ImageQuotaError, ImageToolsMissingError."""
        name, sha256, limits = checked_name(wanted.name), checked_hash(wanted.sha256), self._site.limits
        node_id = self._node()
        if not 0 < wanted.size_bytes <= limits.upload_mib_max * MIB:
            raise InvalidInputError(
                f"an image has 1 byte to {limits.upload_mib_max} MiB, not {wanted.size_bytes} bytes", field="size_bytes"
            )
        if shutil.which(PROGRAM) is None:
            raise ImageToolsMissingError()

        def write(connection: Connection) -> Image:
            self._store.lock(connection, f"images:{organization_id}")
            known, now = sql.image(connection, name, organization_id, own=True), self._store.clock.now()
            if known is not None:
                refuse_other(f"image {name}", known.project, wanted.project)
                if (known.sha256, known.upload_bytes) != (sha256, wanted.size_bytes) or known.state is _S.REMOVING:
                    raise ConflictError(f"you have another image {name}; remove it first, or choose another name")
                if known.state is _S.FAILED:
                    values = {"state": _S.UPLOADING.value, "received_bytes": 0, "last_error": None, "progress": 0}
                    sql.change(connection, known.id, [_S.FAILED], **values, used_at=now, node_id=node_id)
                return _found(sql.image(connection, known.id, None), name)
            self._refuse_beyond_quota(connection, organization_id, wanted.size_bytes)
            made = Image(
                new_id("img"),
                organization_id,
                name,
                _S.UPLOADING,
                shared,
                node_id,
                sha256,
                wanted.size_bytes,
                0,
                now,
                now,
                project=wanted.project,
            )
            sql.insert_image(connection, made)
            return made

        return self._store.write(write)

    def append(
        self, id_or_name: str, organization_id: str | None, offset: int, content: bytes, project: str = ""
    ) -> Image:
        """Store the part of an upload that begins at `offset`. The last part starts the import. Raises NotFoundError,
        OtherProjectError, ConflictError, UploadOffsetError, InvalidInputError, StorageFullError."""
        if not 0 < len(content) <= PART_BYTES_MAX:
            raise InvalidInputError(f"a part has 1 to {PART_BYTES_MAX} bytes, not {len(content)}")
        with self._receiving:
            with self._store.read() as connection:
                image = _found(sql.image(connection, id_or_name, organization_id, own=True), id_or_name)
            refuse_other(f"image {image.name}", image.project, project)
            if image.state is not _S.UPLOADING:
                raise ConflictError(f"image {image.name} is {image.state}, and takes no more parts")
            if image.node_id != self._node():
                raise UnavailableError(f"image {image.name} is being sent to another node; send its parts there")
            if not 0 <= offset <= image.upload_bytes - len(content):
                raise InvalidInputError(
                    f"the part ends beyond the {image.upload_bytes} bytes that were announced", field="offset"
                )
            files = self._files(image.id)
            if image.received_bytes == 0 and offset == 0 and files.received() > 0:
                # Left over from an upload that failed.
                files.remove()
            self._require_room(len(content))
            received = files.append(offset, content)
            state = _S.IMPORTING if received == image.upload_bytes else _S.UPLOADING
            values = {"received_bytes": received, "state": state.value, "used_at": self._store.clock.now()}
            self._store.write(lambda connection: sql.change(connection, image.id, [_S.UPLOADING], **values))
            return replace(image, received_bytes=received, state=state)

    def image(self, id_or_name: str, organization_id: str | None) -> Image:
        """An image of the organization or of the operator. Raises NotFoundError, also for another organization's image."""
        with self._store.read() as connection:
            return _found(sql.image(connection, id_or_name, organization_id), id_or_name)

    def page(self, organization_id: str | None, wanted: PageRequest) -> Page[Image]:
        """A page of images, newest first; with an organization, only those that it can use."""
        with self._store.read() as connection:
            return sql.page(connection, organization_id, wanted)

    def leases_on(self, images: Sequence[Image], organization_id: str | None) -> dict[str, list[str]]:
        """The leases that run or will run on each image, by its id; with an organization, only its own."""
        with self._store.read() as connection:
            return sql.leases_on(connection, [image.id for image in images], organization_id)

    def remove(self, id_or_name: str, organization_id: str | None, project: str = "") -> Image:
        """Remove an image and its files. Raises NotFoundError, OtherProjectError, ImageInUseError."""

        def write(connection: Connection) -> Image:
            found = _found(sql.image(connection, id_or_name, organization_id, own=True), id_or_name)
            refuse_other(f"image {found.name}", found.project, project)
            # Change first, which locks the row, and then check: a concurrent sale is seen here or sees this change.
            sql.change(connection, found.id, ImageState, state=_S.REMOVING.value)
            lease_id = sql.lease_on(connection, found.id)
            if lease_id is not None:
                raise ImageInUseError(f"lease {lease_id} runs on image {found.name}; end that lease first")
            return replace(found, state=_S.REMOVING)

        return self._store.write(write)

    def tend(self, now: datetime) -> None:
        """One round: import uploaded images, one after another, and delete removed ones."""
        node_id = self._site.node_id()
        if self._site.directory is None or node_id is None:
            return
        self._watch(now)
        with self._store.read() as connection:
            removing = sql.in_states(connection, node_id, [_S.REMOVING], PER_ROUND)
            importing = sql.in_states(connection, node_id, [_S.IMPORTING], 1)
        for image in removing:
            self._wipe(image)
        if self._importing is None and importing:
            self._import(importing[0], now)
        self._expire(node_id, now)

    def close(self) -> None:
        """End a running import; the next process starts it over."""
        if self._importing is not None:
            self._importing.close()
            self._importing = None

    def _import(self, image: Image, now: datetime) -> None:
        files = self._files(image.id)
        if files.received() != image.upload_bytes:
            self._fail(image, "what was uploaded is no longer on this machine; import it again", now)
            return
        self._importing = Import(image.id, files, image.sha256, self._site.limits, unpack=self._site.unpack)
        self._import_began = now

    def _watch(self, now: datetime) -> None:
        running = self._importing
        if running is None:
            return
        ended = running.poll()
        with self._store.read() as connection:
            image = sql.image(connection, running.image_id, None)
        if image is None or image.state is not _S.IMPORTING:
            running.close()
            self._importing = None
            return
        if not ended and self._import_began is not None and (now - self._import_began).total_seconds() > IMPORT_S_MAX:
            running.close()
            self._importing = None
            self._fail(image, f"the import took longer than {IMPORT_S_MAX // 3600} hours", now)
            return
        if not ended:
            if running.progress != image.progress:
                self._store.write(
                    lambda connection: sql.change(connection, image.id, [_S.IMPORTING], progress=running.progress)
                )
            return
        self._importing = None
        if running.result is None:
            self._fail(image, running.refusal, now)
            return
        try:
            running.files.keep_result()
        except OSError as error:
            self._fail(image, told_to_tenant(f"the image could not be kept: {error}"), now)
            return
        self._finish(image, running, now)

    def _finish(self, image: Image, running: Import, now: datetime) -> None:
        told = running.result or {}
        values = {
            "state": _S.READY.value,
            "progress": 100,
            "bytes": int(told["bytes"]),
            "files": int(told["files"]),
            "manifest": str(told["manifest"]) or None,
            "shell": str(told["shell"]),
            "environment": dict(told["environment"]) or None,
            "last_error": None,
            "used_at": now,
        }

        def write(connection: Connection) -> None:
            if sql.change(connection, image.id, [_S.IMPORTING], **values):
                made = _found(sql.image(connection, image.id, None), image.id)
                events.record(connection, events.READY, made, f"{made.files} files, {made.bytes} bytes", now)

        self._store.write(write)

    def _fail(self, image: Image, reason: str, now: datetime) -> None:
        told = reason[:500]

        def write(connection: Connection) -> None:
            values = {"state": _S.FAILED.value, "last_error": told, "received_bytes": 0}
            if sql.change(connection, image.id, [_S.IMPORTING], **values):
                events.record(connection, events.FAILED, image, told, now)

        self._files(image.id).remove()
        self._store.write(write)

    def _wipe(self, image: Image) -> None:
        files = self._files(image.id)
        with self._receiving:
            files.remove()
        if files.root.exists():
            _log.warning("image_not_removed", image=image.id)
            return
        self._store.write(lambda connection: sql.change(connection, image.id, [_S.REMOVING], state=_S.REMOVED.value))

    def _expire(self, node_id: str, now: datetime) -> None:
        """Remove abandoned uploads, and images that no lease has used for as long as the operator allows."""
        limits = self._site.limits
        with self._store.read() as connection:
            given_up = now - timedelta(seconds=ABANDONED_S)
            found = sql.unused(connection, node_id, [_S.UPLOADING], given_up, PER_ROUND)
            if limits.unused_s:
                since = now - timedelta(seconds=limits.unused_s)
                found += sql.unused(connection, node_id, [_S.READY, _S.FAILED], since, PER_ROUND)
        for image in found:

            def write(connection: Connection, image: Image = image) -> None:
                if not sql.change(connection, image.id, [image.state], state=_S.REMOVING.value):
                    return
                if sql.lease_on(connection, image.id) is not None:
                    sql.change(connection, image.id, [_S.REMOVING], state=image.state.value, used_at=now)
                elif image.state is _S.READY:
                    days = (now - image.used_at).days
                    events.record(connection, events.EXPIRED, image, f"no lease has used it for {days} days", now)

            self._store.write(write)

    def _node(self) -> str:
        node_id = self._site.node_id()
        if self._site.directory is None or node_id is None:
            raise UnavailableError("this Sublet stores no images; send the request to one that serves pools")
        return node_id

    def _files(self, image_id: str) -> ImageFiles:
        assert self._site.directory is not None
        return ImageFiles.of(self._site.directory, image_id)

    def _require_room(self, count: int) -> None:
        assert self._site.directory is not None
        self._site.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        usage = shutil.disk_usage(self._site.directory)
        if usage.free - count < usage.total // 20:
            raise StorageFullError("the disk of this Sublet has no room for the image; ask the operator")

    def _refuse_beyond_quota(self, connection: Connection, organization_id: str, size_bytes: int) -> None:
        count, held = sql.held(connection, organization_id)
        limits = self._site.limits
        if count >= limits.count_max or held + size_bytes > limits.mib_max * MIB:
            raise ImageQuotaError(
                f"your organization has {count} images of {-(-held // MIB)} MiB in all and may have {limits.count_max} of "
                f"{limits.mib_max} MiB; another {-(-size_bytes // MIB)} MiB would exceed that"
            )


def chosen(
    connection: Connection, site: ImageSite, organization_id: str, name: str, pool_id: str
) -> tuple[str, str, str] | None:
    """Id, name and digest of the image that a lease on a pool requests, or None. Raises NotFoundError, ConflictError,
    InvalidInputError."""
    if not name:
        return None
    image = _found(sql.image(connection, name, organization_id), name)
    if image.state is not _S.READY:
        raise ConflictError(f"image {image.name} is {image.state}; `sublet image show {image.name}` says more")
    nodes = sql.nodes_of(connection, pool_id)
    if nodes and image.node_id not in nodes and not site.limits.shared:
        raise InvalidInputError(
            f"image {image.name} is stored on another node than pool {pool_id}; import it through the node of that pool",
            field="image",
        )
    return image.id, image.name, image.digest


def take(connection: Connection, image: tuple[str, str, str] | None, now: datetime) -> None:
    """Record that a new lease uses the image. Raises ConflictError if the image was removed since it was quoted."""
    if image is not None and not sql.use(connection, image[0], now):
        raise ConflictError(f"image {image[1]} was removed in the meantime; ask for a new quote")


def order_of(connection: Connection, image: tuple[str, str, str] | None) -> ImageOrder | None:
    """What a backend needs to know about the image of the lease."""
    if image is None:
        return None
    found = _found(sql.image(connection, image[0], None), image[1])
    return ImageOrder(found.id, found.name, found.digest, found.shell, dict(found.environment))


def _found(image: Image | None, name: str) -> Image:
    if image is None:
        raise NotFoundError(f"there is no image {name[:60]!r}; `sublet image ls` lists yours")
    return image
