"""The gateway killed with SIGKILL, or told to end, in the middle of its work: what was delivered is billed, once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateway import served
from tests.gateway.harness import (
    MODEL,
    Answering,
    ScriptedEngine,
    Wire,
    add_model,
    add_replica,
    ask,
    chunk,
    event,
    post,
    timings,
    until,
    usage,
)

from sublet.accounts.service import Accounts
from sublet.store import Store


class Process:
    """A gateway process and what its ledger got."""

    def __init__(self, store: Store, folder: Path, key: str) -> None:
        self._store = store
        self._folder = folder
        self._events = folder / "events.jsonl"
        self.key = key
        self.child: subprocess.Popen[str] | None = None
        self.address = ("", 0)

    def start(self) -> None:
        command = [
            sys.executable,
            str(Path(served.__file__)),
            str(self._store.url),
            str(self._folder),
            str(self._events),
        ]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.child.stdout is not None
        for line in self.child.stdout:
            if line.startswith("READY"):
                host, port = line.split()[1].removeprefix("http://").split(":")
                self.address = (host, int(port))
                return
        raise AssertionError("the gateway did not start")

    def signal(self, number: int) -> int:
        assert self.child is not None
        self.child.send_signal(number)
        code = self.child.wait(20)
        if self.child.stdout is not None:
            self.child.stdout.close()
        return code

    def wire(self) -> Wire:
        return Wire(self.address)

    def emitted(self) -> dict[str, dict[str, tuple[int, bool]]]:
        """By request and meter: quantity and incomplete. Fails where one event id came with two contents."""
        found: dict[str, tuple[str, str, int, bool]] = {}
        if self._events.exists():
            for line in self._events.read_text().splitlines():
                event_id, request, meter, quantity, incomplete = json.loads(line)
                assert found.setdefault(event_id, (request, meter, quantity, incomplete)) == (
                    request,
                    meter,
                    quantity,
                    incomplete,
                )
        by_request: dict[str, dict[str, tuple[int, bool]]] = {}
        for request, meter, quantity, incomplete in found.values():
            assert meter not in by_request.setdefault(request, {})
            by_request[request][meter] = (quantity, incomplete)
        return by_request

    def runs_left(self) -> int:
        return len(list((self._folder / "gateway").iterdir()))


@pytest.fixture
def process(tmp_path: Path, engine: ScriptedEngine) -> Iterator[Process]:
    from sublet.store.metadata import metadata

    store = Store(f"sqlite:///{tmp_path}/crash.db")
    metadata.create_all(store.engine)
    accounts = Accounts(store)
    _, secret = accounts.create_key(accounts.create_organization("customer").id)
    add_model(store, MODEL, engine="llamacpp")
    add_replica(store, MODEL, engine.url, slots=64)
    made = Process(store, tmp_path, secret)
    made.start()
    yield made
    if made.child is not None and made.child.poll() is None:
        made.child.kill()
        made.child.wait()
    store.close()


@pytest.mark.parametrize("delivered", [0, 1, 5])
def test_a9_killed_in_mid_stream_what_was_delivered_is_billed_once(
    process: Process, engine: ScriptedEngine, delivered: int
) -> None:
    async def script(answering: Answering) -> None:
        await answering.head()
        for number in range(delivered):
            await answering.part(event(chunk(f"t{number};", timings=timings(9, number + 1, cached=4))))
        await answering.gone()

    engine.script = script
    wire = process.wire()
    wire.send(post(ask(stream=True), process.key))
    head = wire.read_until(b"\r\n\r\n").decode()
    request_id = head.partition("x-request-id: ")[2].partition("\r\n")[0]
    if delivered:
        wire.read_until(f"t{delivered - 1};".encode())
    assert process.signal(signal.SIGKILL) == -signal.SIGKILL
    assert process.emitted() == {}
    process.start()
    expected = {"tokens.input": (5, True), "tokens.input_cached": (4, True), "tokens.output": (delivered, True)}
    until(lambda: process.runs_left() == 1)
    assert process.emitted() == ({request_id: expected} if delivered else {})
    assert process.signal(signal.SIGTERM) == 0
    process.start()
    until(lambda: process.runs_left() == 1)
    assert process.emitted() == ({request_id: expected} if delivered else {})


def test_a9_killed_while_it_waits_for_a_whole_answer_nothing_is_billed(
    process: Process, engine: ScriptedEngine
) -> None:
    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    wire = process.wire()
    wire.send(post(ask(), process.key))
    until(lambda: engine.asked)
    process.signal(signal.SIGKILL)
    process.start()
    until(lambda: process.runs_left() == 1)
    assert process.emitted() == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a9_killed_under_load_every_answer_that_was_seen_to_its_end_is_billed_exactly_once(
    process: Process, engine: ScriptedEngine, number: int
) -> None:
    async def script(answering: Answering) -> None:
        tokens = answering.asked.body["seed"] % 5 + 1
        await answering.head()
        for count in range(tokens):
            await answering.part(event(chunk("x", timings=timings(9, count + 1))))
            await asyncio.sleep(0)
        await answering.part(event({**chunk(), "choices": [], "usage": usage(9, tokens)}))
        await answering.part(event("[DONE]"))
        await answering.end()

    engine.script = script
    complete: dict[str, int] = {}
    partial: dict[str, int] = {}

    def client(first: int) -> None:
        seed = first
        while True:
            text = b""
            try:
                wire = process.wire()
                wire.send(post(ask(stream=True, seed=seed), process.key, extra="connection: close\r\n"))
                text = wire.read_all()
                wire.close()
            except OSError:
                pass
            if not text:
                return
            request = text.decode().partition("x-request-id: ")[2].partition("\r\n")[0]
            events = text.count(b'"content":"x"')
            if b"[DONE]" in text:
                assert events == seed % 5 + 1
                complete[request] = events
            else:
                partial[request] = events
                return
            seed += 8

    clients = [threading.Thread(target=client, args=(first,)) for first in range(8)]
    for thread in clients:
        thread.start()
    until(lambda: len(complete) >= 60, seconds=20)
    process.signal(number)
    for thread in clients:
        thread.join(20)
    process.start()
    until(lambda: process.runs_left() == 1)
    emitted = process.emitted()
    for request, tokens in complete.items():
        assert emitted[request] == {"tokens.input": (9, False), "tokens.output": (tokens, False)}
    for request in set(emitted) - set(complete):
        # Cut in its last instant: billed at most what it would have been, and not more than one event beyond what was seen.
        billed = emitted[request].get("tokens.output", (0, True))[0]
        assert billed <= partial.get(request, 0) + 1


def test_a_second_gateway_on_the_same_port_is_one_clear_sentence(process: Process, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sublet.gateway.server import run; from sublet.gateway.model import "
        "GatewaySettings; from sublet.store import Store; from sublet.wiring.model_api import gateway_ports; "
        "run(GatewaySettings(data_dir=Path(sys.argv[2]), port=int(sys.argv[3])), Store(sys.argv[1]), "
        "gateway_ports(lambda records: None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(process._store.url), str(tmp_path / "other"), str(process.address[1])],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ},
        check=False,
    )
    assert done.returncode != 0
    assert "AddressTakenError: the gateway can't listen on 127.0.0.1" in done.stderr.strip().splitlines()[-1]
