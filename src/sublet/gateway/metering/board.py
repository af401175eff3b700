"""The progress board: what each open request has been given so far, in a memory-mapped file that survives the process.

A slot has all that a successor needs to bill its request, so that a request costs the journal one line, written when it is
over. Slot: sequence, input, cached input, output, start in microseconds, CRC-32 of the context, its length, the context.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sublet.gateway.model import Tokens

SLOTS_MAX = 16_384
SLOT_BYTES = 512
FILE = "progress"
_COUNTS = struct.Struct("<QIII")
_OPENING = struct.Struct("<QIIIQIH")
_SEQUENCE = struct.Struct("<Q")
CONTEXT_BYTES_MAX = SLOT_BYTES - _OPENING.size

FILE_0_1 = "board"
"""The board of version 0.1: 32 bytes a slot, with counts alone. What a gateway of that version left open is read from it."""
_SLOT_BYTES_0_1 = 32


class Board:
    """Running counts of open requests, one slot each. For the event loop's thread."""

    def __init__(self, path: Path, slots: int = SLOTS_MAX) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Real blocks, not holes: a store into a hole on a full disk would end the process.
            os.posix_fallocate(descriptor, 0, slots * SLOT_BYTES)
            self._map = mmap.mmap(descriptor, slots * SLOT_BYTES)
        finally:
            os.close(descriptor)
        self._free = list(range(slots - 1, -1, -1))

    def take(self, sequence: int) -> int:
        """A slot for the counts of request number `sequence`, whose journal line names it; -1 where none is free."""
        if not self._free:
            return -1
        slot = self._free.pop()
        _OPENING.pack_into(self._map, slot * SLOT_BYTES, sequence, 0, 0, 0, 0, 0, 0)
        return slot

    def open(self, sequence: int, started_us: int, context: bytes) -> int:
        """A slot that opens request number `sequence` without a line in the journal: `context` is what its settled line will
        say of who asked what. -1 where no slot is free, or the context does not fit."""
        if not self._free or len(context) > CONTEXT_BYTES_MAX:
            return -1
        slot = self._free.pop()
        at = slot * SLOT_BYTES
        begin = at + _OPENING.size
        # The number goes in last: a slot that was being written when the process was killed is nobody's.
        self._map[begin : begin + len(context)] = context
        _OPENING.pack_into(self._map, at, sequence, 0, 0, 0, started_us, zlib.crc32(context), len(context))
        return slot

    def put(self, slot: int, sequence: int, input: int, input_cached: int, output: int) -> None:
        """What the request has been given by now."""
        if slot >= 0:
            _COUNTS.pack_into(self._map, slot * SLOT_BYTES, sequence, input, input_cached, output)

    def clear(self, slot: int) -> None:
        """The line that settles the request is written, or it needs none: a successor has nothing left to bill here."""
        if slot >= 0:
            _SEQUENCE.pack_into(self._map, slot * SLOT_BYTES, 0)
            self._free.append(slot)

    def close(self) -> None:
        self._map.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """A request that an ended run left open on its board; `context` are fields of its record, as JSON without braces."""

    sequence: int
    started_us: int
    context: bytes
    given: Tokens


def opened(folder: Path) -> Iterator[Opened]:
    """The requests that the board of an ended run opened and never settled."""
    try:
        content = (folder / FILE).read_bytes()
    except OSError:
        return
    for at in range(0, len(content) - SLOT_BYTES + 1, SLOT_BYTES):
        sequence, *counts, started_us, checksum, length = _OPENING.unpack_from(content, at)
        if not sequence or not 0 < length <= CONTEXT_BYTES_MAX:
            continue
        context = content[at + _OPENING.size : at + _OPENING.size + length]
        if zlib.crc32(context) == checksum:
            yield Opened(sequence, started_us, context, Tokens(counts[0], min(counts[1], counts[0]), counts[2]))


def tokens_at(folder: Path, slot: int, sequence: int) -> Tokens:
    """What the board of an ended run says that a request was given; nothing where the slot is another's by now."""
    if slot < 0:
        return Tokens()
    old = not (folder / FILE).exists()
    try:
        with (folder / (FILE_0_1 if old else FILE)).open("rb") as file:
            file.seek(slot * (_SLOT_BYTES_0_1 if old else SLOT_BYTES))
            content = file.read(_COUNTS.size)
    except OSError:
        return Tokens()
    if len(content) < _COUNTS.size:
        return Tokens()
    found, *counts = _COUNTS.unpack(content)
    if found != sequence:
        return Tokens()
    return Tokens(counts[0], min(counts[1], counts[0]), counts[2])
