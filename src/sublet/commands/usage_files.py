"""Files of usage events, as `sublet ledger take` sends them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TAKE_EVENTS = 1_000
TAKE_BYTES = 512 * 1024


def batches(found: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Events in batches of so many and of so many bytes as one request takes."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for place, content in found:
        if batch and (len(batch) == TAKE_EVENTS or size + len(content) > TAKE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((place, content))
        size += len(content) + 1
    if batch:
        yield batch


def is_json(content: bytes) -> bool:
    """Whether the content is one JSON value."""
    import msgspec

    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def events_in(file: Path) -> Iterator[tuple[int, bytes]]:
    """Each event of a file with its place: its number in the array, or its line."""
    with file.open("rb") as lines:
        first = next((line.lstrip() for line in lines if line.strip()), b"")
        lines.seek(0)
        if first.startswith(b"["):
            from sublet.ledger.usage.cloudevents import split_batch

            yield from enumerate(split_batch(lines.read()), 1)
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line.strip()
