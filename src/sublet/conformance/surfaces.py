"""What every surface of the gateway must do. The stage has requests of its vendor, and ways to read what it writes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from sublet.conformance.check import Checks, NonconformingError, expect, refuses
from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import EngineFailedError
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import CHAT, COMPLETION, COUNT, EMBEDDING
from sublet.gateway.surfaces.surface import Headers, Identity, Surface
from sublet.gateway.upstream.writer import check, for_engine
from sublet.values.errors import InvalidInputError, LimitExceededError, NotFoundError, SubletError, UnavailableError

PUBLIC, PRIVATE = "public-model", "engine-private-name"
WORDS = "forty-two words"
CUSTOMER = "sublet_conformance"
SEED = 7


@dataclass(frozen=True, slots=True)
class SurfaceStage:
    """`requests` has a body for each kind of call that the surface serves, to the model `public-model`; `streamed` those that ask for
    a stream. `said` reads the text out of a whole answer, `streamed_said` out of all bytes of a stream, `refused` the sentence
    out of a refusal. `headers` carry the key `sublet_conformance`. `fields` are names of fields that the vendor's requests may have
    besides, for tests that try anything in them. `streaming` is the surface that reads the requests for streams, where that
    is another."""

    surface: Surface
    requests: Mapping[str, bytes]
    streamed: Mapping[str, bytes]
    said: Callable[[bytes], str]
    streamed_said: Callable[[bytes], str]
    refused: Callable[[bytes], str]
    headers: Headers = ((b"authorization", b"Bearer " + CUSTOMER.encode()),)
    fields: Sequence[str] = ()
    streaming: Surface | None = None

    @property
    def route(self) -> ModelRoute:
        """A model that can all, served under another name than the public one."""
        known = frozenset({CHAT, COMPLETION, EMBEDDING, "tools", "json_schema", "images", "suffix"})
        return ModelRoute(PUBLIC, PRIVATE, known, 4096, 1, (), dialect="vllm")

    def calls(self, bodies: Mapping[str, bytes]) -> list[tuple[Call, dict[str, Any]]]:
        """Each request as the surface reads it, and the body that an engine gets."""
        found = []
        surface = self.streaming if bodies is self.streamed and self.streaming is not None else self.surface
        for kind, body in bodies.items():
            call = surface.parse(kind, body)
            check(call, self.route)
            found.append((call, json.loads(for_engine(call, self.route))))
        return found


_check: Checks[SurfaceStage] = Checks()
_IDENTITY = Identity("req_0123456789", PUBLIC, 1_700_000_000)


def _whole(kind: str) -> bytes:
    """An engine's answer."""
    if kind == COUNT:
        return json.dumps({"usage": {"prompt_tokens": 3}}).encode()
    if kind == EMBEDDING:
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}]
        return json.dumps({"object": "list", "data": data, "model": PRIVATE, "usage": {"prompt_tokens": 3}}).encode()
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    choice |= {"text": WORDS} if kind == COMPLETION else {"message": {"role": "assistant", "content": WORDS}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return json.dumps({"id": "engine-id", "model": PRIVATE, "choices": [choice], "usage": usage}).encode()


def _chunks(kind: str) -> list[bytes]:
    """An engine's stream, event by event."""

    def chunk(text: str | None, reason: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if kind == COMPLETION:
            choice["text"] = text or ""
        else:
            choice["delta"] = {} if text is None else {"content": text}
        return json.dumps({"id": "engine-id", "model": PRIVATE, "choices": [choice]}).encode()

    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    last = json.dumps({"id": "engine-id", "model": PRIVATE, "choices": [], "usage": usage}).encode()
    return [chunk("forty"), chunk("-two"), chunk(" words"), chunk(None, "stop"), last]


@_check
def its_routes_are_paths_of_known_kinds(stage: SurfaceStage) -> None:
    """Every path begins with a slash, ends in none, and is of a kind of call that there is a request for."""
    for path, kind in stage.surface.routes.items():
        expect(path.startswith(b"/") and not path.endswith(b"/"), f"{path!r} is no path without a slash at its end")
        expect(kind in (CHAT, COMPLETION, EMBEDDING, COUNT), f"{path!r} is of kind {kind!r}")
        expect(kind in stage.requests, f"the stage has no request of kind {kind}")


@_check
def it_finds_the_key(stage: SurfaceStage) -> None:
    """The key is found where the vendor's clients put it, and where there is none it is empty."""
    found = stage.surface.secret(stage.headers)
    expect(found == CUSTOMER.encode(), f"the headers carry {CUSTOMER}, and {found!r} was found")
    expect(stage.surface.secret(((b"host", b"x"),)) == b"", "headers without a key have one")


@_check
def it_reads_what_is_asked(stage: SurfaceStage) -> None:
    """The model, the kind and whether a stream is wanted are read; the engine is asked under its own name of the model."""
    for bodies, stream in ((stage.requests, False), (stage.streamed, True)):
        for call, asked in stage.calls(bodies):
            expect(call.model == PUBLIC, f"the request is to {PUBLIC}, and was read as to {call.model!r}")
            need = CHAT if call.kind == COUNT else call.kind
            expect(need in call.needs, f"a {call.kind} does not need that its model can {need}")
            expect(call.stream is stream, f"stream was read as {call.stream}")
            expect(asked["model"] == PRIVATE, f"the engine is asked for {asked['model']!r}")
            expect(bool(asked.get("stream")) is stream, "the engine is asked for a stream where none is wanted, or not")
            expect(
                any(asked.get(name) for name in ("messages", "prompt", "input")),
                f"the engine is asked nothing: {asked}",
            )


@_check
def each_request_is_its_own(stage: SurfaceStage) -> None:
    """The same request read twice is the same twice; nothing of one is left in the next."""
    for bodies in (stage.requests, stage.streamed):
        first, second = stage.calls(bodies), stage.calls(bodies)
        expect(
            [asked for _, asked in first] == [asked for _, asked in second], "the second reading differs from the first"
        )
        expect(
            all(one is not other for (one, _), (other, _) in zip(first, second, strict=True)), "one call served twice"
        )


@_check
def nonsense_is_refused_by_a_sentence(stage: SurfaceStage) -> None:
    """Whatever the body, it is read or refused with a typed error of 400 to 499; nothing else is ever raised."""
    chance = random.Random(SEED)
    for kind, body in {**stage.requests, **stage.streamed}.items():
        bad = [
            b"",
            b"null",
            b"[]",
            b'"x"',
            b"{}",
            b"\xff\xfe",
            b"[" * 5000,
            b'{"model":' * 2000,
            body[:-1],
            body + b"}",
        ]
        bad += [body[: chance.randrange(len(body))] for _ in range(20)]
        bad += [_damaged(body, chance) for _ in range(200)]
        for each in bad:
            try:
                stage.surface.parse(kind, each)
            except SubletError as error:
                expect(400 <= error.status < 500 and error.message, f"{each[:80]!r} is refused with {error.status}")
            except Exception as error:
                raise NonconformingError(f"{each[:80]!r} raised {type(error).__name__}: {error}") from error
    for kind in stage.requests:
        refuses(SubletError, partial(stage.surface.parse, kind, b"{}"), "a request for nothing was taken")


@_check
def an_answer_is_told_in_its_own_form(stage: SurfaceStage) -> None:
    """The engine's text reaches the client, and the engine's own names do not."""
    for call, _ in stage.calls(stage.requests):
        told = stage.surface.answer(call, _IDENTITY, _whole(call.kind))
        if call.kind in (CHAT, COMPLETION):
            expect(stage.said(told) == WORDS, f"the engine said {WORDS!r}, the client reads {stage.said(told)!r}")
        _no_leak(told)


@_check
def a_stream_is_told_in_its_own_form(stage: SurfaceStage) -> None:
    """The text of a stream reaches the client event by event, with a type, an end, and none of the engine's own names."""
    expect(b"/" in stage.surface.stream_content_type, f"the type is {stage.surface.stream_content_type!r}")
    for call, _ in stage.calls(stage.streamed):
        form = stage.surface.stream(call, _IDENTITY)
        parts = [form.event(chunk) for chunk in _chunks(call.kind)]
        expect(b"forty" in parts[0], "the first event of an engine is not passed on at once")
        told = b"".join((*parts[:2], form.keep_alive(), *parts[2:], form.end()))
        said = stage.streamed_said(told)
        expect(said == WORDS, f"the engine said {WORDS!r}, the client reads {said!r}")
        _no_leak(told)


@_check
def two_streams_do_not_mix(stage: SurfaceStage) -> None:
    """Two streams at the same time have their own text and their own ids."""
    for call, _ in stage.calls(stage.streamed):
        other = Identity("req_9876543210", PUBLIC, 1_700_000_000)
        one, two = stage.surface.stream(call, _IDENTITY), stage.surface.stream(call, other)
        told_one, told_two = b"", b""
        for chunk in _chunks(call.kind):
            told_one += one.event(chunk)
            told_two += two.event(chunk)
        said = (stage.streamed_said(told_one + one.end()), stage.streamed_said(told_two + two.end()))
        expect(said == (WORDS, WORDS), f"two streams at once say {said}")
        expect(b"9876543210" not in told_one and b"0123456789" not in told_two, "a stream has the id of another")


@_check
def what_an_engine_garbles_is_an_engine_failure(stage: SurfaceStage) -> None:
    """An answer or an event that can't be read is an EngineFailedError or another typed error, and nothing else."""
    for call, _ in stage.calls(stage.requests):
        answer = partial(stage.surface.answer, call, _IDENTITY)
        for body in (b"", b"<html>", b"[]", b"{}", b'{"choices": 3}'):
            _typed(partial(answer, body), body)
        refuses(SubletError, partial(answer, b"<html>"), "a page was taken for an answer")
    for call, _ in stage.calls(stage.streamed):
        for body in (b"<html>", b"[]", b"{}"):
            _typed(partial(stage.surface.stream(call, _IDENTITY).event, body), body)
        event = stage.surface.stream(call, _IDENTITY).event
        refuses(EngineFailedError, partial(event, b"<html>"), "an event that is no JSON was passed on")


@_check
def a_failure_is_told_in_mid_stream(stage: SurfaceStage) -> None:
    """When an answer ends early, the bytes that say so have the sentence."""
    for call, _ in stage.calls(stage.streamed):
        told = stage.surface.stream(call, _IDENTITY).failure(UnavailableError("the engine is gone; try again"))
        expect(b"the engine is gone; try again" in told, f"a failure is told as {told[:200]!r}")


@_check
def refusals_have_the_sentence(stage: SurfaceStage) -> None:
    """The body of every error has its sentence, in any script."""
    for kind in (InvalidInputError, NotFoundError, LimitExceededError, UnavailableError, EngineFailedError):
        for sentence in ("say it otherwise", 'it is "x" \\ <b>', "nicht genug — 容量"):
            told = stage.refused(stage.surface.refusal(kind(sentence)))
            expect(told == sentence, f"an error that says {sentence!r} is told as {told!r}")


CHECKS = tuple(_check.all)
"""Every promise of `gateway.surfaces.surface.Surface`."""


def _typed(call: Callable[[], object], body: bytes) -> None:
    try:
        call()
    except SubletError:
        return
    except Exception as error:
        raise NonconformingError(f"{body[:80]!r} of an engine raised {type(error).__name__}: {error}") from error


def _no_leak(told: bytes) -> None:
    for name in (PRIVATE.encode(), b"engine-id"):
        expect(name not in told, f"the client is told {name.decode()!r}")


def _damaged(body: bytes, chance: random.Random) -> bytes:
    """The request with something else in it."""
    found = json.loads(body)
    values: Sequence[Any] = (None, 0, -1, 1e308, "", "x", [], {}, [[]], {"a": 1}, True)
    with suppress(IndexError):
        name = chance.choice(sorted(found))
        found[name] = chance.choice(values)
    return json.dumps(found).encode()
