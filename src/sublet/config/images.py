"""Root file systems that customers bring, as an operator limits them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from sublet.config.pools import Section


class Images(Section):
    """Images: root file systems that leases can run on instead of this machine's programs."""

    mib_per_organization: int = Field(
        default=20_480, ge=0, le=1 << 30, description="MiB that an organization's images may have in all; 0: none"
    )
    count_per_organization: int = Field(default=20, ge=0, le=1000, description="images that an organization may have")
    upload_mib: int = Field(default=8_192, ge=1, le=1 << 20, description="MiB of the largest file that is taken")
    unpacked_mib: int = Field(default=32_768, ge=1, le=1 << 20, description="MiB of an image's files, uncompressed")
    files: int = Field(default=500_000, ge=1, le=5_000_000, description="files in an image, all layers counted")
    unused_days: int = Field(
        default=0, ge=0, le=3660, description="days without a lease after which a customer's image is removed; 0: never"
    )
    directory: Path | None = Field(
        default=None, description="directory of images, which all nodes share; unset: each node has its own in data_dir"
    )
