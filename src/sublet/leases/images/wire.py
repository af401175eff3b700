"""Wire types of images."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Whole, answer, body


@body
class NewImage:
    """An image to upload: a tar of a root file system (plain, or compressed with gzip, bzip2, xz or zstd), a tar of an OCI
    layout, or the output of `docker save`. `size_bytes` and `sha256` are those of the file."""

    name: Annotated[str, MinLen(1), MaxLen(60), LINE]
    size_bytes: Annotated[Whole, Interval(ge=1, le=1 << 50)]
    sha256: Annotated[str, MinLen(64), MaxLen(64), LINE]


@answer
class Image:
    """A root file system for leases. `digest` identifies its contents: the digest of its OCI manifest, or else of the file.
    `state` is `uploading`, `importing`, `ready`, `failed` or `removing`. A `shared` image belongs to the operator and can be
    used by all organizations. `project` is the one that imported it, and `used_at` when a lease last took it, or null."""

    id: str
    organization_id: str
    name: str
    state: str
    shared: bool
    digest: str
    sha256: str
    upload_bytes: int
    received_bytes: int
    progress: int
    bytes: int
    files: int
    shell: str
    environment: dict[str, str]
    last_error: str | None
    created_at: Moment
    project: str | None
    used_at: Moment | None


@answer
class ImagePage:
    """A page of images, newest first."""

    images: list[Image]
    next: str | None


@answer
class ImageOfLease:
    """The image that a lease runs on, and the digest of its contents."""

    id: str
    name: str
    digest: str
