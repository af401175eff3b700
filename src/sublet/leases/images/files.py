"""The files of images on a machine: one directory for each image, written only by this machine's Sublet."""

from __future__ import annotations

import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from sublet.leases.uploads import append_part
from sublet.values.errors import InvalidInputError

_IMAGE_ID = re.compile(r"img_[a-z0-9]{1,40}")


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """`upload` is the uploaded file, `image` the squashfs, and `tree` the unpacked image on a machine that can't mount it."""

    root: Path

    @classmethod
    def of(cls, directory: Path, image_id: str) -> ImageFiles:
        """The directory of an image. Raises InvalidInputError for an id that could refer to another path."""
        if not _IMAGE_ID.fullmatch(image_id):
            raise InvalidInputError(f"{image_id!r} is not the id of an image")
        return cls(directory / image_id)

    @property
    def upload(self) -> Path:
        return self.root / "upload"

    @property
    def image(self) -> Path:
        return self.root / "image"

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    def received(self) -> int:
        """The number of bytes received so far."""
        return self.upload.stat().st_size if self.upload.is_file() else 0

    def append(self, offset: int, content: bytes) -> int:
        """Append a part durably, and return the number of bytes received. A part that was received already changes nothing.
        Raises UploadOffsetError."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return append_part(self.upload, offset, content)

    def keep_result(self) -> None:
        """After the conversion, take ownership of the result and delete the upload. Raises OSError."""
        if not stat.S_ISREG(self.image.lstat().st_mode):
            raise OSError("the converter left no file")
        if os.geteuid() == 0:
            os.chown(self.root, 0, 0)
            os.chown(self.image, 0, 0, follow_symlinks=False)
        self.image.chmod(0o600)
        self.upload.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete all files of the image. Directories that are not writable are made writable first."""
        # A walk would follow a link that stands in the place of its root.
        for place, folders, _ in () if self.tree.is_symlink() else os.walk(self.tree):
            for name in folders:
                inner = Path(place, name)
                if not inner.is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(self.root, ignore_errors=True)
