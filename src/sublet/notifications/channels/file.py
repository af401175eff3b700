"""A file of JSON lines, for operators whose tools read files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import ClassVar

from sublet.notifications.channels.base import Message, Receipt
from sublet.values.errors import InvalidInputError

FOLDER = "notifications"
EVENTS_MAX = 100
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class FileChannel:
    """Appends one line for each event to a file in `data_dir/notifications`, and syncs it. Anyone who rotates it may move it away
    at any time."""

    name: ClassVar[str] = "file"
    formats: ClassVar[tuple[str, ...]] = ("standard",)
    signed: ClassVar[bool] = False
    operator_only: ClassVar[bool] = True
    confirmed: ClassVar[bool] = False
    events_max = EVENTS_MAX
    gather_s = 0.0

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    def checked_address(self, address: str, *, internal: bool) -> str:
        if not NAME.fullmatch(address):
            raise InvalidInputError(
                "address must be a file name, such as events.jsonl; the file is in data_dir/notifications"
            )
        return address

    def receiver(self, address: str) -> str:
        return f"file {address}"

    def send(self, message: Message) -> Receipt:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        lines = "".join(f"{json.dumps(event.as_dict(), ensure_ascii=False)}\n" for event in message.events)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        handle = os.open(self._folder / message.address, flags, 0o600)
        try:
            waiting = memoryview(lines.encode())
            while waiting:
                waiting = waiting[os.write(handle, waiting) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        return Receipt()
