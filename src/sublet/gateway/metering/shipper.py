"""Takes settled records from the journals to the ledger: at least once, under ids that make twice the same as once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec
import structlog

from sublet.gateway.metering.board import Opened, opened, tokens_at
from sublet.gateway.metering.journal import (
    ALLOWANCE,
    CLOSE,
    RESERVE,
    SETTLE,
    TORN_END,
    Record,
    line_of,
    lines,
    lock_run,
)
from sublet.gateway.metering.meter import RUNNING
from sublet.gateway.model import (
    METER_INPUT,
    METER_INPUT_CACHED,
    METER_OUTPUT,
    Tokens,
    UsageRecord,
    event_id,
    request_id,
)
from sublet.values.errors import InvalidInputError

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode

log = structlog.get_logger(__name__)

BATCH_MAX = 500
RETRY_S = 1.0
GATHER_S = 0.01
"""After being woken, so that requests that end together are one transaction."""

Emit = Callable[[list[UsageRecord]], None]
"""Takes usage events to the ledger; returns once they are durable there, raises where they are not."""


class Shipper:
    """A thread that reads what the journal has settled and emits it; ended runs first, then the present one."""

    def __init__(
        self,
        journal_dir: Path,
        run: str,
        emit: Emit,
        interval_s: float = 0.5,
        each_round: Callable[[], None] | None = None,
    ) -> None:
        self._journal_dir = journal_dir
        self._run = run
        self._emit = emit
        self._interval_s = interval_s
        self._each_round = each_round
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._loop, name="gateway-shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ship what is there, then end."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self.round()

    def wake(self) -> None:
        """Something is settled that somebody waits for: do not wait for the next round."""
        self._woken.set()

    def round(self) -> int:
        """Ship everything that is settled by now; returns the number of events. Never raises."""
        shipped = 0
        try:
            for folder in sorted(self._journal_dir.iterdir()):
                if folder.is_dir() and folder.name != self._run and (folder / "lock").exists():
                    shipped += self._ship_ended(folder)
            shipped += ship(self._journal_dir / self._run, self._emit)
            if self._each_round is not None:
                self._each_round()
            if self._failing:
                log.warning("usage reaches the ledger again")
            self._failing = False
        except Exception as error:
            # The journal keeps everything until the ledger has taken it.
            if not self._failing:
                log.warning("usage waits in the journal: the ledger does not take it", error=str(error)[:300])
            self._failing = True
        return shipped

    def _ship_ended(self, folder: Path) -> int:
        lock = lock_run(folder)
        if lock is None:
            return 0
        try:
            recovered = close_open_requests(folder)
            if recovered:
                log.warning("requests that an ended gateway left open are settled", run=folder.name, requests=recovered)
            shipped = ship(folder, self._emit)
            for path in sorted(folder.iterdir(), key=lambda path: path.name == "lock"):
                path.unlink()
            folder.rmdir()
        finally:
            os.close(lock)
        return shipped

    def _loop(self) -> None:
        while not self._stopped.is_set():
            if self._failing:
                self._stopped.wait(RETRY_S)
            elif self._woken.wait(self._interval_s):
                self._stopped.wait(GATHER_S)
            self._woken.clear()
            if not self._stopped.is_set():
                self.round()


def close_open_requests(folder: Path) -> int:
    """Settle, in an ended run's own journal, the requests that it left open: for what the board says they were given.

    Returns how many. The folder's lock must be held. Doing it twice settles nothing twice.
    """
    open_requests: dict[str, Record] = {}
    given: dict[str, Tokens] = {}
    last_us = 0
    for found in opened(folder):
        record = _opening_of(folder.name, found)
        open_requests[record.request] = record
        given[record.request] = found.given
        last_us = max(last_us, found.started_us)
    segments = sorted(folder.glob("*.journal"))
    for segment in segments:
        for record, _ in lines(segment):
            last_us = max(last_us, record.started_us, record.ended_us)
            if record.kind in (RESERVE, ALLOWANCE):
                open_requests[record.request] = record
            else:
                open_requests.pop(record.request, None)
    if not open_requests:
        return 0
    # Allowances last: what closes one comes behind all that names it.
    ending = sorted(open_requests.values(), key=lambda record: record.kind == ALLOWANCE)
    with segments[-1].open("r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.write(TORN_END)
        for record in ending:
            tokens = given.get(record.request) or tokens_at(folder, record.slot, record.sequence)
            file.write(line_of(_settled(record, tokens, last_us)))
        file.flush()
        os.fdatasync(file.fileno())
    return sum(record.kind != ALLOWANCE for record in ending)


def ship(folder: Path, emit: Emit) -> int:
    """Emit a run's settled records from where the last call ended; returns the number of events.

    Events that `emit` refuses with InvalidInputError go to `refused.jsonl` beside the runs, for a person to look at.
    """
    mark = folder / "shipped"
    refused = folder.parent / "refused.jsonl"
    segment_name, offset = _read_mark(mark)
    shipped = 0
    segments = [path for path in sorted(folder.glob("*.journal")) if path.name >= segment_name]
    for path in segments:
        offset = offset if path.name == segment_name else 0
        batch: list[UsageRecord] = []
        end = offset
        for record, end in lines(path, offset, (SETTLE, CLOSE)):
            batch.extend(usage_of(record))
            if len(batch) >= BATCH_MAX:
                _emit(batch, emit, refused)
                shipped += len(batch)
                batch = []
                _write_mark(mark, path.name, end)
        if batch:
            _emit(batch, emit, refused)
            shipped += len(batch)
        if end != offset:
            _write_mark(mark, path.name, end)
        if path != segments[-1]:
            # Its successor has the requests that were open at its end.
            path.unlink()
    return shipped


def _emit(batch: list[UsageRecord], emit: Emit, refused: Path) -> None:
    """Emit a batch. Events that the ledger will never take are set aside, so that they do not hold up all others."""
    try:
        emit(batch)
    except InvalidInputError:
        for _, events in groupby(batch, key=lambda event: event.request_id):
            _emit_request(list(events), emit, refused)


def _emit_request(events: Sequence[UsageRecord], emit: Emit, refused: Path) -> None:
    """The events of one request settle its hold together, or, where the ledger refuses one of them, not at all."""
    with contextlib.suppress(InvalidInputError):
        emit(list(events))
        return
    for event in events:
        if not event.quantity:
            continue
        try:
            emit([msgspec.structs.replace(event, held=False)])
        except InvalidInputError as error:
            log.error("the ledger refuses a usage event; it is set aside", usage_event=event.id, error=error.message)
            with refused.open("ab") as file:
                file.write(_encode(event) + b"\n")
                file.flush()
                os.fsync(file.fileno())


def usage_of(record: Record) -> list[UsageRecord]:
    """The events of a settled request, one for each kind of token that it used; at least one where it was held."""
    if record.kind == CLOSE:
        return [_closed(record)]
    cached = min(record.input_cached, record.input)
    untouched = record.held and not record.input and not record.output
    found = []
    for meter, quantity in (
        (METER_INPUT, record.input - cached),
        (METER_INPUT_CACHED, cached),
        (METER_OUTPUT, record.output),
    ):
        if quantity > 0 or (untouched and meter == METER_OUTPUT):
            found.append(
                UsageRecord(
                    event_id(record.request, meter),
                    record.request,
                    record.organization,
                    record.key,
                    record.model,
                    record.pool,
                    record.replica,
                    meter,
                    quantity,
                    record.started_us,
                    record.ended_us,
                    record.status,
                    record.incomplete,
                    record.project,
                    record.held,
                    record.counted,
                    record.hold,
                    tier=record.tier,
                )
            )
    return found


def _closed(record: Record) -> UsageRecord:
    """The end of an allowance, as it goes to the ledger with the usage that named it."""
    return UsageRecord(
        event_id(record.request, CLOSE),
        record.request,
        record.organization,
        record.key,
        record.model,
        "",
        "",
        "",
        0,
        record.started_us,
        record.ended_us,
        200,
        False,
        record.project,
        hold=record.request,
        closes=True,
        nano=record.nano,
    )


def _opening_of(run: str, found: Opened) -> Record:
    """What a line would say that opened a request which only the board knows of."""
    said = _decode(b'{"kind":"reserve","request":"",%b}' % found.context)
    return msgspec.structs.replace(said, request=request_id(run, found.sequence), started_us=found.started_us)


def _settled(record: Record, given: Tokens, ended_us: int) -> Record:
    return Record(
        kind=CLOSE if record.kind == ALLOWANCE else SETTLE,
        request=record.request,
        organization=record.organization,
        key=record.key,
        project=record.project,
        model=record.model,
        pool=record.pool,
        replica=record.replica,
        started_us=record.started_us,
        ended_us=max(ended_us, record.started_us),
        status=500,
        input=given.input,
        input_cached=given.input_cached,
        output=given.output,
        incomplete=True,
        reason="gateway_died",
        counted=RUNNING if given != Tokens() else "",
        held=record.held,
        hold=record.hold,
        nano=-1 if record.kind == ALLOWANCE else 0,
        tier=record.tier,
    )


def _read_mark(path: Path) -> tuple[str, int]:
    with contextlib.suppress(OSError, ValueError):
        name, offset = path.read_text().split()
        return name, int(offset)
    return "", 0


def _write_mark(path: Path, name: str, offset: int) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(f"{name} {offset}\n")
    temporary.replace(path)
