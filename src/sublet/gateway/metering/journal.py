"""The journal: what each request reserved and used, on this machine's disk before the client sees the end of its answer.

One folder of segments per run of the gateway, one line a record: CRC-32 in hex, a space, JSON, newline. A torn last line
is a record that was never promised to anybody. Beside them lies the progress board (board.py), which has what is open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from sublet.gateway.metering.board import FILE, Board
from sublet.values.errors import ConflictError

log = structlog.get_logger(__name__)

CROWD = 8
GATHER_S = 0.002
"""If so many waited for the last sync, the next one waits for so long first: those that come meanwhile share it."""

TORN_END = b"~\n"
"""Closes a line that is there in part. Not just a newline: it would make whole a line that lacks nothing else."""

RESERVE = "reserve"
SETTLE = "settle"
ALLOWANCE = "allowance"
CLOSE = "close"


class Record(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A line of the journal. A `settle` closes a request and names it in full, so that it needs no other line. A `reserve`
    opens one that has a hold, or no slot on the board; the board alone opens all others. Times are microseconds since the epoch,
    `*_us` durations in microseconds. `held` says that a hold on budgets has the request's id, and is to be settled with it.
    `counted` says how the tokens are known where it was not the engine's final count; see meter.py. An `allowance` opens a hold
    that many requests share (requests/allowances.py), whose id is its `request`; they name it as their `hold`, and a `close`
    ends it: they cost `nano` at most (-1: nobody knows)."""

    kind: str
    request: str
    slot: int = -1
    sequence: int = 0
    organization: str = ""
    key: str = ""
    model: str = ""
    pool: str = ""
    replica: str = ""
    started_us: int = 0
    ended_us: int = 0
    status: int = 0
    input: int = 0
    input_cached: int = 0
    output: int = 0
    incomplete: bool = False
    reason: str = ""
    queue_us: int = 0
    first_us: int = 0
    total_us: int = 0
    project: str = ""
    held: bool = False
    counted: str = ""
    hold: str = ""
    nano: int = 0
    tier: str = ""


class OnDurable(Protocol):
    """Called on the event loop once a record is as durable as the settings ask; `ok` is False where it can't be."""

    def __call__(self, ok: bool) -> None: ...


_Entry = tuple[bytes, OnDurable | None, bool, int]
"""A line, who is told of it, whether it is kept where it can't be written, and the slot on the board that it settles."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode
_BRITISH = b'"organisation":'
"""As version 0.1 spelled it: what a gateway of that version left on disk still has to reach the ledger."""


class JournalBusyError(ConflictError):
    """Another gateway is writing to this journal; give each gateway its own data_dir."""

    code = "journal_busy"


def lines(path: Path, offset: int = 0, only: tuple[str, ...] = ()) -> Iterator[tuple[Record, int]]:
    """Whole records from `offset` on, each with the offset behind it; those of the kinds that `only` names, if it does.

    Damaged lines are skipped; an unfinished last line ends it, since it may be finished yet.
    """
    begins = tuple(b'{"kind":"%b"' % kind.encode() for kind in only)
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            if begins and not line.startswith(begins, 9):
                continue
            record = _parsed(line)
            if record is not None:
                yield record, offset


def line_of(record: Record) -> bytes:
    """The line that stands for `record`."""
    content = _encode(record)
    return b"%08x %b\n" % (zlib.crc32(content), content)


class Journal:
    """Appends to the current segment. All methods but `close` are for the event loop's thread."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes_max: int,
        wait_for_disk: bool,
        call_soon: Callable[[Callable[[], None]], object],
        call_soon_threadsafe: Callable[[Callable[[], None]], object],
    ) -> None:
        self.run = secrets.token_hex(8)
        self.folder = folder / self.run
        self.folder.mkdir(parents=True, mode=0o700)
        self._lock = lock_run(self.folder)
        if self._lock is None:
            raise JournalBusyError
        self.board = Board(self.folder / FILE)
        self._segment_bytes_max = segment_bytes_max
        self._wait_for_disk = wait_for_disk
        self._call_soon = call_soon
        self._call_soon_threadsafe = call_soon_threadsafe
        self._segment = -1
        self._descriptor = -1
        self._bytes = 0
        self._buffer: list[_Entry] = []
        self._torn = False
        self._flush_due = False
        self._open: dict[str, Record] = {}
        self.failure: OSError | None = None
        self._syncer = _Syncer(self)
        self._next_segment()

    def reserve(self, record: Record) -> None:
        """Open a request. It reaches the operating system within one turn of the loop."""
        self._open[record.request] = record
        self._append(line_of(record), None, True, -1)

    def settle(self, record: Record, on_durable: OnDurable | None, *, keep: bool, slot: int = -1) -> None:
        """Close a request that `reserve` opened; `on_durable` is told when that is durable.

        With `keep` the record is written later where it can't be now. Without, it is dropped then: the caller has
        delivered nothing yet and delivers nothing. `slot` is the request's on the board; it is cleared once the line is
        written, for until then it is what a successor would bill from.
        """
        self._open.pop(record.request, None)
        self._append(line_of(record), on_durable, keep, slot)

    def settle_opened(self, content: bytes, slot: int, on_durable: OnDurable, *, keep: bool) -> None:
        """The same for a request that the board alone opened; `content` is its record in JSON."""
        self._append(b"%08x %b\n" % (zlib.crc32(content), content), on_durable, keep, slot)

    def retry(self) -> None:
        """Try again after a failure, e.g. once a full disk has room."""
        if self.failure is not None:
            self._flush()

    def close(self) -> None:
        """Write and sync what is left, whatever thread the caller is on; the loop must no longer run."""
        self._flush()
        self._syncer.close()
        with contextlib.suppress(OSError):
            os.fdatasync(self._descriptor)
        os.close(self._descriptor)
        self.board.close()
        if self._lock is not None:
            os.close(self._lock)

    def _append(self, line: bytes, on_durable: OnDurable | None, keep: bool, slot: int) -> None:
        self._buffer.append((line, on_durable, keep, slot))
        if not self._flush_due:
            self._flush_due = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        entries, self._buffer = self._buffer, []
        if not self._write(entries):
            return
        waiting: list[OnDurable] = []
        for _, on_durable, _, slot in entries:
            self.board.clear(slot)
            if on_durable is not None:
                waiting.append(on_durable)
        if self._wait_for_disk:
            if waiting:
                self._syncer.add(waiting)
        else:
            self._syncer.wake()
            for on_durable in waiting:
                on_durable(True)
        if self._bytes >= self._segment_bytes_max:
            self._next_segment()

    def _write(self, entries: list[_Entry]) -> bool:
        """Write all of `entries`, or keep for the next try what must be kept."""
        content = (TORN_END if self._torn else b"") + b"".join([entry[0] for entry in entries])
        view = memoryview(content)
        while view:
            try:
                written = os.write(self._descriptor, view)
            except OSError as error:
                self._failed(entries, len(content) - len(view), error)
                return False
            self._bytes += written
            view = view[written:]
        self._torn = False
        if self.failure is not None:
            log.warning("the gateway's journal can be written again", path=str(self.folder))
            self.failure = None
        return True

    def _failed(self, entries: list[_Entry], written: int, error: OSError) -> None:
        if self.failure is None:
            log.error("the gateway's journal can't be written", path=str(self.folder), error=error.strerror)
        self.failure = error
        if self._torn:
            written -= len(TORN_END)
            self._torn = written < 0
        retained: list[_Entry] = []
        for line, on_durable, keep, slot in entries:
            whole = written >= len(line)
            self._torn = self._torn or 0 < written < len(line)
            written -= len(line)
            if on_durable is not None:
                on_durable(whole and not self._wait_for_disk)
            if not whole and keep:
                retained.append((line, None, True, slot))
            else:
                self.board.clear(slot)
        self._buffer = retained + self._buffer

    def _next_segment(self) -> None:
        path = self.folder / f"{self._segment + 1:08d}.journal"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if self._descriptor < 0:
                raise
            log.warning("no new segment for the journal; the old one grows on", error=error.strerror)
            return
        old, self._descriptor = self._descriptor, descriptor
        self._segment += 1
        self._bytes = 0
        _sync_folder(self.folder)
        if old >= 0:
            self._syncer.replaced(old)
        # Open requests are opened again here, so that a segment is done with once all its settled lines are shipped.
        self._buffer.extend((line_of(record), None, True, -1) for record in self._open.values())
        if self._buffer and not self._flush_due:
            self._flush_due = True
            self._call_soon(self._flush)

    @property
    def descriptor(self) -> int:
        return self._descriptor


class _Syncer:
    """The thread that syncs: one fdatasync for all that waits, then the next."""

    IDLE_SYNC_S = 0.05

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._condition = threading.Condition()
        self._waiting: list[OnDurable] = []
        self._dirty = False
        self._replaced: list[int] = []
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="journal-sync", daemon=True)
        self._thread.start()

    def add(self, waiting: list[OnDurable]) -> None:
        with self._condition:
            self._waiting.extend(waiting)
            if not self._dirty:
                self._dirty = True
                self._condition.notify()

    def wake(self) -> None:
        if not self._dirty:
            with self._condition:
                self._dirty = True
                self._condition.notify()

    def replaced(self, descriptor: int) -> None:
        with self._condition:
            self._replaced.append(descriptor)
            self._dirty = True
            self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _loop(self) -> None:
        crowded = False
        while True:
            with self._condition:
                while not self._dirty and not self._closed:
                    self._condition.wait()
                if not self._waiting and not self._closed:
                    # Nobody waits for the disk: gather for a moment, so that an idle-durable journal syncs rarely.
                    self._condition.wait(self.IDLE_SYNC_S)
            if crowded:
                time.sleep(GATHER_S)
            with self._condition:
                waiting, self._waiting = self._waiting, []
                replaced, self._replaced = self._replaced, []
                self._dirty = False
                closed = self._closed
            crowded = len(waiting) >= CROWD
            ok = self._sync([*replaced, self._journal.descriptor])
            for descriptor in replaced:
                os.close(descriptor)
            if waiting:
                self._tell(waiting, ok)
            if closed:
                return

    def _sync(self, descriptors: list[int]) -> bool:
        for descriptor in descriptors:
            try:
                os.fdatasync(descriptor)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EROFS):
                    log.error("the gateway's journal can't be synced", error=error.strerror)
                    return False
        return True

    def _tell(self, waiting: list[OnDurable], ok: bool) -> None:
        def tell() -> None:
            for on_durable in waiting:
                on_durable(ok)

        # The loop may have ended while the disk was busy; then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._journal._call_soon_threadsafe(tell)


def lock_run(folder: Path) -> int | None:
    """Hold a run's folder until the descriptor is closed or the process ends; None where another process holds it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parsed(line: bytes) -> Record | None:
    if line[8:9] != b" ":
        return None
    content = line[9:-1]
    try:
        if int(line[:8], 16) != zlib.crc32(content):
            return None
        return _decode(content.replace(_BRITISH, b'"organization":'))
    except (ValueError, msgspec.MsgspecError):
        return None
