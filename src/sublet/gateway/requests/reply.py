"""One request's answer on its way from the engine's form to the client's, counted as it passes."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import EngineAnswerTooLargeError, EngineFailedError
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import COUNT, EMBEDDING
from sublet.gateway.surfaces.surface import Identity, QuickForm, QuickSurface, StreamForm, Surface
from sublet.gateway.upstream.assembly import Assembler
from sublet.gateway.upstream.engine_error import engine_error
from sublet.gateway.upstream.engine_meter import EngineMeter
from sublet.gateway.upstream.forced_calls import ForcedStream, with_calls
from sublet.gateway.upstream.scripts import events
from sublet.gateway.upstream.sse import EventCutter
from sublet.values.errors import SubletError

_DONE = b"[DONE]"
_encode = msgspec.json.Encoder().encode


class Reply:
    """Relayed event by event (`form` is set), assembled from an engine's stream, or taken whole.

    Knows nothing of connections, slots and records: bytes of an engine go in, bytes for the client and counts come out.
    """

    __slots__ = (
        "_assembler",
        "_bytes",
        "_cutter",
        "_parts",
        "_quick",
        "_scripted",
        "_wait_s",
        "call",
        "form",
        "identity",
        "meter",
        "status",
        "surface",
        "whole",
    )

    def __init__(self, surface: Surface, call: Call, identity: Identity) -> None:
        self.surface = surface
        self.call = call
        self.identity = identity
        self.meter = call.counts = EngineMeter()
        self.form: StreamForm | None = None
        self._quick: QuickForm | None = None
        self.whole = b""
        """The whole answer in the client's form, once it is complete."""
        self.status = 0
        self._wait_s: float | None = None
        self._bytes = 0
        self._scripted = False
        self._parts: list[bytes] = []
        self._assembler: Assembler | None = None
        self._cutter: EventCutter | None = None

    def forget(self) -> None:
        """Nothing was delivered: nothing of it counts."""
        self.meter = EngineMeter()

    def begin(self, model: ModelRoute) -> None:
        """An engine of `model` is about to be asked; of an earlier one, nothing has reached the client."""
        self.status = self._bytes = 0
        self._parts = []
        self._cutter = None
        self._scripted = False
        if self.call.stream:
            if self.form is None:
                self._begin_stream()
        elif model.stream_only and self.call.kind != EMBEDDING:
            self._assembler = Assembler(self.call.kind)

    def begin_step(self, *, streamed: bool) -> None:
        """A request of a script is about to be sent; its answer is for the script, not for the client."""
        self._scripted = True
        self.status = self._bytes = 0
        self._parts = []
        self._cutter = None
        self._assembler = Assembler(self.call.kind) if streamed else None

    def finish_script(self, answer: dict[str, Any]) -> bytes:
        """Take the whole answer of a script: the bytes for the client of a stream, none where `whole` is to be sent."""
        body = _encode(answer)
        if self.call.kind == COUNT:
            self.whole = self._told(body)
            return b""
        if self.form is None:
            self.meter.whole(body)
            self.meter.finish_whole(self.call, body)
            self.whole = self._told(body)
            return b""
        return b"".join(self.form.event(self.meter.chunk(event)) for event in events(answer, self.call.kind))

    def head(self, status: int, wait_s: float | None) -> None:
        """The engine's status, and the seconds of its `Retry-After` where it has one."""
        self.status = status
        self._wait_s = wait_s
        if status == 200 and (self._assembler is not None or (self.form is not None and not self._scripted)):
            self._cutter = EventCutter()

    @property
    def streamed(self) -> bool:
        """Whether the engine was asked for a stream."""
        return self.form is not None or self._assembler is not None

    @property
    def relayed(self) -> bool:
        """Whether the engine's bytes are for `relay`; all others are for `collect`."""
        return self._cutter is not None and self.form is not None and not self._scripted

    def ordinary(self, data: bytes) -> bytes:
        """What `data` means for the client, where it is one whole event that only adds text; empty where it may be anything."""
        quick = self._quick
        if quick is None or self._cutter is None or self._cutter.tail:
            return b""
        out = quick.ordinary(data)
        if out:
            self.meter.text(len(data) - quick.around)
        return out

    def relay(self, data: bytes) -> tuple[bytes, bool, SubletError | None]:
        """What `data` means for the client of a stream: bytes for it, whether the stream is complete, and what ended it early.

        The meter counts exactly what the returned bytes deliver.
        """
        cutter, form, meter = self._cutter, self.form, self.meter
        assert cutter is not None and form is not None
        out: list[bytes] = []
        failure: SubletError | None = None
        done = False
        before = meter.state()
        payloads: list[bytes] = []
        passed = 0
        running = self.call.running
        try:
            payloads = cutter.feed(data)
            for payload in payloads:
                if payload == _DONE:
                    done = True
                    break
                # One that came alone was tried before.
                form_bytes = self.ordinary(b"data: %b\n\n" % payload) if len(payloads) > 1 else b""
                form_bytes = form_bytes or form.event(meter.chunk(payload, running))
                if form_bytes:
                    out.append(form_bytes)
                passed += 1
        except SubletError as error:
            failure = error
            # The chunk that can't be passed on may have been counted: count again what is delivered.
            meter.restore(before)
            for payload in payloads[:passed]:
                meter.chunk(payload, running)
        return (out[0] if len(out) == 1 else b"".join(out)), done, failure

    def collect(self, data: bytes, bytes_max: int) -> bool:
        """Keep a part of an answer that is passed on whole; whether it is complete.

        Raises EngineAnswerTooLargeError, EngineFailedError.
        """
        self._bytes += len(data)
        if self._bytes > bytes_max:
            raise EngineAnswerTooLargeError
        cutter, assembler = self._cutter, self._assembler
        if cutter is None or assembler is None:
            self._parts.append(data)
            return False
        for payload in cutter.feed(data):
            if payload == _DONE:
                body = assembler.body()
                if self._scripted:
                    self.whole = body
                    return True
                self.meter.finish_whole(self.call, body)
                self.whole = self._told(body)
                return True
            assembler.take(
                EngineMeter().chunk(payload) if self._scripted else self.meter.chunk(payload, self.call.running)
            )
        return False

    def complete(self) -> None:
        """The engine's answer has ended. Raises the error that it is, or EngineFailedError where it broke off."""
        if self._cutter is not None:
            # No [DONE] came.
            raise EngineFailedError
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self.status != 200:
            raise engine_error(self.status, body, self._wait_s)
        if self._scripted:
            self.whole = body
            return
        surface, meter = self.surface, self.meter
        if self.call.forcing is None and hasattr(surface, "ordinary_answer"):
            self.whole = cast(QuickSurface, surface).ordinary_answer(self.call, self.identity, body, meter)
            if self.whole:
                meter.finish_whole(self.call, body)
                return
        meter.whole(body)
        meter.finish_whole(self.call, body)
        self.whole = self._told(body)

    def _begin_stream(self) -> None:
        form = self.surface.stream(self.call, self.identity)
        forcing = self.call.forcing
        if forcing is not None:
            self.form = ForcedStream(form, forcing, self.identity)
            return
        self.form = form
        self._quick = cast(QuickForm, form) if hasattr(form, "ordinary") else None

    def _told(self, body: bytes) -> bytes:
        """A whole answer of an engine in the client's form; counted before, since some surfaces tell the counts."""
        forcing = self.call.forcing
        if forcing is not None and self.call.kind != COUNT:
            body = with_calls(forcing, body, self.identity)
        return self.surface.answer(self.call, self.identity, body)
