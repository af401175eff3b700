"""Gateways that are killed at any step of a batch: no line is lost or answered twice, and none is billed twice."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from sqlalchemy import select
from tests.gateway import served_batches
from tests.gateway.harness import MODEL, ScriptedEngine, add_model, add_replica, until
from tests.gateway.processes import start_gateway
from tests.gateway.test_batches import ended, jsonl, line, lines_of, started

from sublet.accounts.service import Accounts
from sublet.store import Store
from sublet.store.tables.gateway import batch_lines, file_parts, stored_files
from sublet.store.tables.ledger import events

LINES = 3
# What a batch writes where nothing happens: it is claimed and begun, has its lines, is finalized, and its two files are begun, filled
# and ended. Each gateway claims it again.
STEPS = LINES + 6


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    found: list[subprocess.Popen[str]] = []
    yield found
    for child in found:
        if child.poll() is None:
            child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def command(store: Store, folder: Path, number: int, when: str) -> list[str]:
    return [sys.executable, str(Path(served_batches.__file__)), str(store.url), str(folder), str(number), when]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([(number, "before") for number in range(1, STEPS + 1)], marks=pytest.mark.real),
        pytest.param([(number, "after") for number in range(1, STEPS + 1)], marks=pytest.mark.real),
        [(4, "after")],
    ],
    ids=["before each write", "after each write", "once"],
)
def test_a_batch_survives_kills(
    tmp_path: Path, engine: ScriptedEngine, children: list[subprocess.Popen[str]], kills: list[tuple[int, str]]
) -> None:
    from sublet.store.metadata import metadata

    store = Store(f"sqlite:///{tmp_path}/killed.db")
    metadata.create_all(store.engine)
    accounts = Accounts(store)
    _, secret = accounts.create_key(accounts.create_organization("customer").id)
    add_model(store, MODEL, engine="llamacpp")
    add_replica(store, MODEL, engine.url, slots=4)
    address = start_gateway(command(store, tmp_path, *kills[0]), children)
    client = OpenAI(base_url=f"http://{address[0]}:{address[1]}/v1", api_key=secret, max_retries=0)
    batch = started(client, jsonl(*map(line, range(LINES))))
    for number, when in [*kills[1:], (0, "never")]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            # What is left is less than it was to be killed at, in the end.
            assert children[-1].wait(5) == -signal.SIGKILL
        if children[-1].poll() is None:
            break
        address = start_gateway(command(store, tmp_path, number, when), children)
    client = OpenAI(base_url=f"http://{address[0]}:{address[1]}/v1", api_key=secret, max_retries=0)
    done = ended(client, batch.id)
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", LINES, 0)
    answers = lines_of(client, done.output_file_id)
    assert [item["custom_id"] for item in answers] == [f"c{number}" for number in range(LINES)]
    answered = {item["response"]["request_id"] for item in answers}
    until(lambda: len(list((tmp_path / "gateway").iterdir())) == 1)
    with store.read() as connection:
        usage = connection.execute(select(events.c.event_id, events.c.meter, events.c.dimensions)).all()
        files = set(connection.execute(select(stored_files.c.id)).scalars())
        assert (
            set(connection.execute(select(file_parts.c.file_id)).scalars())
            == files
            == {
                done.input_file_id,
                done.output_file_id,
            }
        )
        assert connection.execute(select(batch_lines.c.number)).first() is None
    assert Counter(row.meter for row in usage) == {"tokens.input": LINES, "tokens.output": LINES}
    assert {row.event_id.partition("/")[0] for row in usage} == answered
    assert {json.loads(row.dimensions)["tier"] for row in usage} == {"batch"}
    store.close()
