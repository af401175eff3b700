"""A scripted engine and a gateway in front of it, both on threads of this process, for tests that speak HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, update

from sublet.gateway.batches.worker import Bill, Pace
from sublet.gateway.metering.journal import Record
from sublet.gateway.model import GatewaySettings, UsageRecord
from sublet.gateway.requests.held import Holds
from sublet.gateway.server import run
from sublet.store import Store
from sublet.store.sealing import Sealing
from sublet.store.tables.models import deployments, models, replicas
from sublet.values.ids import new_id
from sublet.wiring.model_api import gateway_ports

MODEL = "toy"


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for other threads to bring `condition` about."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
    return value


def chunk(content: str | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk as an engine sends it, with the engine's own names."""
    delta = {} if content is None else {"content": content}
    return {
        "id": "engine-id",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "engine-model",
        "system_fingerprint": "engine-fp",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def timings(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {"cache_n": cached, "prompt_n": prompt - cached, "prompt_ms": 1.5, "predicted_n": completion}


def event(payload: dict[str, Any] | str) -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def whole(content: str = "Hello", prompt: int = 5, completion: int = 3, cached: int = 0) -> dict[str, Any]:
    """A whole answer as llama.cpp gives it."""
    return {
        "id": "engine-id",
        "object": "chat.completion",
        "created": 1,
        "model": "engine-model",
        "system_fingerprint": "engine-fp",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": usage(prompt, completion, cached),
        "timings": timings(prompt, completion, cached),
    }


@dataclass
class Asked:
    """A request that the engine got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Answering:
    """What a script does with one request."""

    def __init__(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = asked
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, kind: str = "text/event-stream") -> None:
        await self.send(f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())

    async def part(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def answer(self, body: Any, status: int = 200) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.send(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            + data
        )

    async def stream(self, *payloads: dict[str, Any] | str, done: bool = True) -> None:
        """A whole stream."""
        await self.head()
        for payload in payloads:
            await self.part(event(payload))
        if done:
            await self.part(event("[DONE]"))
            await self.end()

    async def gone(self) -> None:
        """Wait until the other side has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass


Script = Callable[[Answering], Awaitable[None]]


async def _plain(answering: Answering) -> None:
    if answering.asked.body.get("stream"):
        await answering.stream(
            chunk("Hel", timings=timings(5, 1)),
            chunk("lo", timings=timings(5, 2)),
            chunk(finish="stop"),
            {**chunk(), "choices": [], "usage": usage(5, 3), "timings": timings(5, 3)},
        )
    else:
        await answering.answer(whole())


class ScriptedEngine:
    """An engine that does what a test's script says."""

    def __init__(self) -> None:
        self.script: Script = _plain
        self.asked: list[Asked] = []
        self.closed = 0
        self.open = 0
        self._server: asyncio.Server | None = None
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(5)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)

    def close_port(self) -> None:
        """From now on nobody listens there."""

        async def close() -> None:
            assert self._server is not None
            self._server.close()

        asyncio.run_coroutine_threadsafe(close(), self.loop).result(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self._server = self.loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self._started.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self._server.close()
        self.loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    first, *lines = head.strip().split("\r\n")
                    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                    body = await reader.readexactly(int(headers["content-length"]))
                    asked = Asked(first.split(" ")[1], headers, json.loads(body))
                    self.asked.append(asked)
                    await self.script(Answering(asked, reader, writer))
        finally:
            self.open -= 1
            self.closed += 1
            writer.close()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        return [part[6:].decode() for part in self.body.split(b"\n\n") if part.startswith(b"data: ")]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(part) for part in self.events if part != "[DONE]"]

    @property
    def text(self) -> str:
        return "".join(item["choices"][0]["delta"].get("content") or "" for item in self.chunks if item.get("choices"))


class Wire:
    """A raw client connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.buffer = b""

    def __del__(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                break
            self.buffer += data
        at = self.buffer.find(mark) + len(mark) if mark in self.buffer else len(self.buffer)
        found, self.buffer = self.buffer[:at], self.buffer[at:]
        return found

    def read_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            data = self.socket.recv(65536)
            if not data:
                break
            self.buffer += data
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def read_all(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            while data := self.socket.recv(65536):
                self.buffer += data
        found, self.buffer = self.buffer, b""
        return found

    def answer(self) -> Answer:
        """Read one answer off the connection."""
        head = self.read_until(b"\r\n\r\n").decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.read_until(b"\r\n") or b"0", 16):
                body += self.read_exactly(size)
                self.read_exactly(2)
            self.read_exactly(2)
        elif "content-length" in headers:
            body = self.read_exactly(int(headers["content-length"]))
        else:
            body = self.read_all()
        return Answer(int(first.split(" ")[1]), headers, body)

    def closed(self) -> bool:
        """Whether the other side closes, now or within the socket's timeout."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.socket.close()


def post(
    body: dict[str, Any] | bytes, key: str, path: str = "/v1/chat/completions", extra: str = "", version: str = "1.1"
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        f"POST {path} HTTP/{version}\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"{extra}content-length: {len(data)}\r\n\r\n"
    ).encode() + data


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}


@dataclass
class Running:
    """A gateway on a thread."""

    settings: GatewaySettings
    store: Store
    key: str
    key_id: str
    url: str = ""
    events: list[UsageRecord] = field(default_factory=list)
    refuse_events: bool = False
    holds: Holds | None = None
    ledger: Callable[[list[UsageRecord]], None] | None = None
    ledger_within: Bill | None = None
    sealing: Sealing | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("https://").removeprefix("http://").split(":")
        return host, int(port)

    def wire(self) -> Wire:
        return Wire(self.address)

    def post(self, body: dict[str, Any] | bytes, **more: Any) -> Answer:
        wire = self.wire()
        try:
            wire.send(post(body, more.pop("key", self.key), **more))
            return wire.answer()
        finally:
            wire.close()

    def get(self, path: str, key: str | None = None) -> Answer:
        wire = self.wire()
        try:
            wire.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key or self.key}\r\n\r\n".encode())
            return wire.answer()
        finally:
            wire.close()

    def operator_get(self, path: str, extra: str = "") -> Answer:
        """Ask the operator's listener, without a key."""
        assert self.settings.operator_port is not None
        wire = Wire(("127.0.0.1", self.settings.operator_port))
        try:
            wire.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n{extra}\r\n".encode())
            return wire.answer()
        finally:
            wire.close()

    def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        lines = self.operator_get("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))

    def tokens(self, request_id: str | None = None) -> dict[str, int]:
        """What was emitted, by meter, each event id once."""
        unique = {record.id: record for record in self.events}
        found: dict[str, int] = {}
        for record in unique.values():
            if request_id in (None, record.request_id):
                found[record.meter] = found.get(record.meter, 0) + record.quantity
        return found

    def settled(self, count: int) -> list[dict[str, Any]]:
        """The journal's settle records, once there are `count`."""
        until(lambda: len(self.journal("settle")) >= count)
        found = self.journal("settle")
        assert len(found) == count
        return found

    def journal(self, kind: str | None = None) -> list[dict[str, Any]]:
        lines = [
            msgspec.to_builtins(msgspec.json.decode(line[9:], type=Record))
            for path in sorted(self.settings.journal_dir.glob("*/*.journal"))
            for line in path.read_text().splitlines()
        ]
        return [line for line in lines if kind in (None, line["kind"])]

    def emit(self, records: list[UsageRecord]) -> None:
        if self.refuse_events:
            raise OSError("the ledger is away")
        if self.ledger is not None:
            self.ledger(records)
        self.events.extend(records)

    def bill(self, connection: Connection, records: Sequence[UsageRecord]) -> None:
        """The same within a transaction."""
        if self.refuse_events:
            raise OSError("the ledger is away")
        if self.ledger_within is not None:
            self.ledger_within(connection, records)
        self.events.extend(records)

    def start(self) -> Running:
        ready = threading.Event()

        def on_ready(url: str) -> None:
            self.url = url
            ready.set()

        self._stop.clear()
        self._thread = threading.Thread(
            target=run,
            args=(
                self.settings,
                self.store,
                gateway_ports(self.emit, holds=self.holds, sealing=self.sealing, bill=self.bill),
            ),
            kwargs={"on_ready": on_ready, "stop": self._stop, "pace": Pace(poll_s=0.05, stale_s=0.5)},
            daemon=True,
        )
        self._thread.start()
        assert ready.wait(10)
        return self

    def stop(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join(15)
            assert not self._thread.is_alive()
            self._thread = None


def add_model(store: Store, name: str, *, engine: str = "openai_url", **fields: Any) -> None:
    """Put a model with an active deployment into the database, its replicas not yet."""
    now = store.clock.now()
    entry = {
        "name": name,
        "engine": engine,
        "source": {"url": "http://unused"},
        "sha256": None,
        "context_tokens": 2048,
        "slots": 4,
        "accelerators": 1,
        "capabilities": ["chat", "completions"],
        "surplus_class": "spot",
        "license": "",
        "description": "",
        **fields,
    }

    def write(connection: Any) -> None:
        connection.execute(insert(models).values(name=name, entry=entry, created_at=now))
        connection.execute(
            insert(deployments).values(
                id=new_id("dep"),
                model=name,
                pool_id="pool_x",
                floor=1,
                replicas_max=4,
                scale=None,
                state="active",
                created_at=now,
                updated_at=now,
            )
        )

    store.write(write)


def add_replica(store: Store, model: str, endpoint: str, slots: int = 4) -> str:
    replica_id = new_id("rep")
    now = store.clock.now()

    def write(connection: Any) -> None:
        deployment = connection.execute(deployments.select().where(deployments.c.model == model)).one()
        connection.execute(
            insert(replicas).values(
                id=replica_id,
                deployment_id=deployment.id,
                model=model,
                pool_id="pool_x",
                accelerators=1,
                state="ready",
                endpoint=endpoint,
                slots=slots,
                restarts=0,
                reason="",
                created_at=now,
            )
        )

    store.write(write)
    return replica_id


def set_replica(store: Store, replica_id: str, **values: Any) -> None:
    store.write(
        lambda connection: connection.execute(update(replicas).where(replicas.c.id == replica_id).values(**values))
    )
