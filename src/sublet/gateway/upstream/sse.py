"""Cuts a byte stream of server-sent events into events, however the network cut it before."""

from __future__ import annotations

from sublet.gateway.refusals import EngineFailedError

EVENT_BYTES_MAX = 4 * 1024 * 1024


class EventCutter:
    """Feeds on bytes, gives the payloads of whole `data:` events.

    Format: https://html.spec.whatwg.org/multipage/server-sent-events.html, with LF or CRLF line ends; comments and other
    fields than `data` are dropped.
    """

    __slots__ = ("tail",)

    def __init__(self) -> None:
        self.tail = b""
        """The beginning of an event whose end has not come yet."""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` completes. Raises EngineFailedError where an event never ends."""
        if self.tail:
            data = self.tail + data
        if b"\r" in data:
            # JSON never has a raw carriage return, so every one of them belongs to a line end.
            held = b"\r" if data.endswith(b"\r") else b""
            data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        end = data.rfind(b"\n\n")
        if end < 0:
            self.tail = data
            if len(data) > EVENT_BYTES_MAX:
                raise EngineFailedError
            return []
        self.tail = data[end + 2 :]
        return [payload for event in data[:end].split(b"\n\n") if (payload := _payload(event))]


def _payload(event: bytes) -> bytes:
    if event[:6] == b"data: " and b"\n" not in event:
        return event[6:]
    lines = []
    for line in event.split(b"\n"):
        if line[:5] == b"data:":
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
    return b"\n".join(lines)
