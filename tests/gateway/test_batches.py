"""Files and batches, as OpenAI's SDK uses them: bounded, of nobody else, each line answered and billed once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI, RateLimitError
from openai.types import BatchRequestCounts
from sqlalchemy import select, update
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, ask, post, until, whole
from tests.gateway.test_budgets import INPUT_NANO, OUTPUT_NANO, PRICES, UNIT, Money
from tests.gateway.test_budgets import money as money

from sublet.accounts.service import Accounts
from sublet.gateway.files.api import UPLOADS_MAX, UPLOADS_PER_ORGANIZATION_MAX
from sublet.ledger.prices.book import book_from_dict
from sublet.store import Store
from sublet.store.tables.gateway import batch_lines, batches, file_parts, stored_files
from sublet.wiring.requests import take_usage


def client_of(gateway: Running, key: str | None = None) -> OpenAI:
    return OpenAI(base_url=gateway.url + "/v1", api_key=key or gateway.key, max_retries=0)


def organization_of(store: Store, gateway: Running) -> str:
    return Accounts(store).authenticate(gateway.key).organization_id


def line(number: int, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"number {number}"}]
    return {
        "custom_id": f"c{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": MODEL, "messages": messages, **body},
    }


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in lines)


def started(client: OpenAI, content: bytes, endpoint: Any = "/v1/chat/completions", **more: Any) -> Any:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def ended(client: OpenAI, batch_id: str) -> Any:
    def over() -> Any:
        found = client.batches.retrieve(batch_id)
        return found if found.status in ("completed", "failed", "expired", "cancelled") else None

    return until(over)


def counts_of(client: OpenAI, batch_id: str) -> BatchRequestCounts:
    found = client.batches.retrieve(batch_id).request_counts
    assert found is not None
    return found


def lines_of(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()] if file_id else []


# Files


def test_files_are_uploaded_listed_read_and_deleted(make_gateway: Any, store: Store) -> None:
    gateway: Running = make_gateway()
    content = jsonl(*(line(number) for number in range(20_000))) + '{"käse": "🧀"}\n'.encode()
    with client_of(gateway) as client:
        made = client.files.create(
            file=("in.jsonl", content),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 7200},
        )
        assert (made.bytes, made.filename, made.purpose, made.status) == (
            len(content),
            "in.jsonl",
            "batch",
            "processed",
        )
        assert made.expires_at == made.created_at + 7200
        assert client.files.content(made.id).content == content
        assert client.files.retrieve(made.id) == made
        store.clock.advance(1)  # type: ignore[attr-defined]
        others = [client.files.create(file=b'{"x": 1}', purpose="batch").id for _ in range(3)]
        assert sorted(item.id for item in client.files.list(limit=2)) == sorted([made.id, *others])
        assert [item.id for item in client.files.list(order="asc", limit=1).data] == [made.id]
        assert client.files.list(purpose="batch_output").data == []
        assert client.files.delete(made.id).deleted
        for act in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(NotFoundError, match="no such file"):
                act(made.id)
    with store.read() as connection:
        assert made.id not in set(connection.execute(select(file_parts.c.file_id)).scalars())


def test_files_are_bounded_and_a_refused_one_leaves_nothing(make_gateway: Any, store: Store) -> None:
    gateway: Running = make_gateway(file_mib_max=1, files_per_organization_max=2, files_mib_per_organization_max=1)
    with client_of(gateway) as client:
        with pytest.raises(BadRequestError, match="not UTF-8"):
            client.files.create(file=b'{"x": "\xff"}', purpose="batch")
        with pytest.raises(BadRequestError, match="zero byte"):
            client.files.create(file=b"x\x00", purpose="batch")
        with pytest.raises(BadRequestError, match="purpose must be batch"):
            client.files.create(file=b"{}", purpose="user_data")
        with pytest.raises(BadRequestError, match="empty"):
            client.files.create(file=b"", purpose="batch")
        with pytest.raises(BadRequestError, match="3600 to"):
            client.files.create(file=b"{}", purpose="batch", expires_after={"anchor": "created_at", "seconds": 60})
        with store.read() as connection:
            assert connection.execute(select(stored_files.c.id)).first() is None
            assert connection.execute(select(file_parts.c.file_id)).first() is None
        first = client.files.create(file=b"x" * 700_000, purpose="batch")
        with pytest.raises(RateLimitError, match="MiB together"):
            client.files.create(file=b"x" * 700_000, purpose="batch")
        client.files.create(file=b"{}", purpose="batch")
        with pytest.raises(RateLimitError, match="the maximum"):
            client.files.create(file=b"{}", purpose="batch")
        client.files.delete(first.id)
        client.files.create(file=b"{}", purpose="batch")
        for query in ({"limit": "0"}, {"order": "up"}, {"purpose": "x"}, {"after": "file_1"}):
            with pytest.raises(BadRequestError):
                client.files.list(extra_query=query)
    assert gateway.post(b"x" * 2_000_000, path="/v1/files").status == 413
    assert gateway.post(b"x", path="/v1/files").status == 400
    assert gateway.post(b"x", path="/v1/files", key="sublet_wrong").status == 401
    assert gateway.post(ask()).status == 200


def test_an_organization_whose_files_are_full_begins_no_batch(make_gateway: Any) -> None:
    """What batches write counts too: without this, one small file makes any number of large error files."""
    gateway: Running = make_gateway(files_per_organization_max=2)
    with client_of(gateway) as client:
        client.files.create(file=jsonl(line(0)), purpose="batch")
        with pytest.raises(RateLimitError, match="the maximum"):
            started(client, jsonl(line(0)))


def test_slow_uploads_of_one_organization_hold_up_no_other(make_gateway: Any) -> None:
    gateway: Running = make_gateway()
    other: Running = make_gateway(start=False)
    until(lambda: gateway.get("/v1/models", other.key).status == 200)
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\ncontent-length: 100000\r\n"
        "content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    slow = [gateway.wire() for _ in range(UPLOADS_MAX + UPLOADS_PER_ORGANIZATION_MAX)]
    for wire in slow:
        wire.send(head.encode())
    with client_of(gateway, other.key) as client:
        assert client.files.create(file=jsonl(line(0)), purpose="batch", timeout=20).bytes
    for wire in slow:
        wire.close()
    with client_of(gateway) as client:
        assert client.files.create(file=jsonl(line(0)), purpose="batch", timeout=20).bytes


def test_a_file_expires(make_gateway: Any, store: Store) -> None:
    gateway: Running = make_gateway()
    with client_of(gateway) as client:
        made = client.files.create(file=b"{}", purpose="batch")
        store.write(lambda connection: connection.execute(update(stored_files).values(expires_at=store.clock.now())))
        with pytest.raises(NotFoundError):
            client.files.content(made.id)
        assert client.files.list().data == []


def test_nobody_sees_what_is_anothers(make_gateway: Any, store: Store) -> None:
    first: Running = make_gateway()
    second: Running = make_gateway()
    accounts = Accounts(store)
    organization = organization_of(store, first)
    _, mine = accounts.create_key(organization, project="search")
    _, other = accounts.create_key(organization, project="ads")
    until(lambda: second.get("/v1/models", other).status == 200)
    with client_of(first, mine) as client:
        batch = started(client, jsonl(line(1)))
        ended(client, batch.id)
    for key in (second.key, other):
        with client_of(second, key) as stranger:
            assert stranger.files.list().data == [] and stranger.batches.list().data == []
            with pytest.raises(NotFoundError):
                stranger.files.content(batch.input_file_id)
            for act in (stranger.batches.retrieve, stranger.batches.cancel):
                with pytest.raises(NotFoundError):
                    act(batch.id)
            with pytest.raises(BadRequestError, match="input_file_id"):
                stranger.batches.create(
                    input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
                )
    # A key without a project has all of its organization's.
    with client_of(second, first.key) as client:
        assert [item.id for item in client.batches.list()] == [batch.id]
        assert lines_of(client, client.batches.retrieve(batch.id).output_file_id)


# Batches


def test_a_batch_is_answered_line_by_line_and_billed_once(
    make_gateway: Any, engine: ScriptedEngine, store: Store
) -> None:
    gateway: Running = make_gateway()
    bad = {**line(7), "body": {"model": MODEL, "messages": "x"}}
    with client_of(gateway) as client:
        batch = started(client, jsonl(*map(line, range(5)), bad) + b"\n" + jsonl(line(9)), metadata={"of": "me"})
        assert batch.status in ("validating", "in_progress") and batch.metadata == {"of": "me"}
        assert batch.expires_at == batch.created_at + 86_400
        with pytest.raises(ConflictError, match="not over"):
            client.files.delete(batch.input_file_id)
        done = ended(client, batch.id)
        assert (done.status, done.model, done.errors) == ("completed", MODEL, None)
        assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (7, 6, 1)
        assert done.in_progress_at and done.finalizing_at and done.completed_at and done.expired_at is None
        assert (done.usage.input_tokens, done.usage.output_tokens) == (30, 18)
        answers = lines_of(client, done.output_file_id)
        assert [item["custom_id"] for item in answers] == ["c0", "c1", "c2", "c3", "c4", "c9"]
        for item in answers:
            body = item["response"]["body"]
            assert item["error"] is None and item["response"]["status_code"] == 200
            assert body["choices"][0]["message"]["content"] == "Hello" and body["service_tier"] == "batch"
            assert body["id"].removeprefix("chatcmpl-") == item["response"]["request_id"].removeprefix("req_")
        (wrong,) = lines_of(client, done.error_file_id)
        assert (wrong["custom_id"], wrong["response"]["status_code"]) == ("c7", 400)
        assert wrong["response"]["body"]["error"]["param"] == "messages"
        assert client.batches.list(limit=1).data[0].id == batch.id
        with pytest.raises(ConflictError, match="can't be canceled"):
            client.batches.cancel(batch.id)
        assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
    assert gateway.tokens() == {"tokens.input": 30, "tokens.output": 18}
    assert {record.tier for record in gateway.events} == {"batch"}
    assert {item["response"]["request_id"] for item in answers} == {record.request_id for record in gateway.events}
    with store.read() as connection:
        assert connection.execute(select(batch_lines.c.number)).first() is None


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/embeddings", {"input": "x"}),
    ],
)
def test_every_endpoint_has_batches(
    make_gateway: Any, engine: ScriptedEngine, store: Store, endpoint: str, body: dict[str, Any]
) -> None:
    async def script(answering: Answering) -> None:
        if "embeddings" in answering.asked.path:
            vector = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            await answering.answer({"object": "list", "data": vector, "usage": {"prompt_tokens": 2, "total_tokens": 2}})
        elif answering.asked.path == "/v1/completions":
            await answering.answer({**whole(), "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]})
        else:
            await answering.answer(whole())

    engine.script = script
    gateway: Running = make_gateway()
    allow_embeddings(store)
    until(lambda: "embeddings" in gateway.get("/v1/models").json["data"][0]["capabilities"])
    with client_of(gateway) as client:
        made = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": MODEL, **body}}
        done = ended(client, started(client, jsonl(made), endpoint).id)
        (answer,) = lines_of(client, done.output_file_id)
        assert answer["response"]["status_code"] == 200
        if endpoint == "/v1/responses":
            assert answer["response"]["body"]["service_tier"] == "batch"


def allow_embeddings(store: Store) -> None:
    from sublet.store.tables.models import models

    def write(connection: Any) -> None:
        entry = connection.execute(select(models.c.entry)).scalar_one()
        entry = {**entry, "capabilities": ["chat", "completions", "embeddings"]}
        connection.execute(update(models).values(entry=entry))

    store.write(write)


def test_a_file_that_can_not_be_used_fails_with_its_lines(make_gateway: Any) -> None:
    gateway: Running = make_gateway()
    wrong = [
        b"not json",
        jsonl(line(1)).strip(),
        jsonl(line(1)).strip(),
        jsonl({**line(2), "url": "/v1/embeddings"}).strip(),
        jsonl({**line(3), "method": "GET"}).strip(),
        jsonl(line(4, stream=True)).strip(),
        jsonl({**line(5), "body": {"model": "other", "messages": []}}).strip(),
        jsonl({**line(6), "body": {"messages": []}}).strip(),
    ]
    with client_of(gateway) as client:
        done = ended(client, started(client, b"\n".join(wrong)).id)
        assert done.status == "failed" and done.failed_at and done.output_file_id is None
        assert [(item.line, item.param) for item in done.errors.data] == [
            (1, None),
            (3, "custom_id"),
            (4, "url"),
            (5, "method"),
            (6, "body.stream"),
            (7, "body.model"),
            (8, "body.model"),
        ]
        empty = ended(client, started(client, b"\n\n").id)
        assert [item.code for item in empty.errors.data] == ["empty_file"]
        file = client.files.create(file=jsonl(line(1)), purpose="batch")
        for asked, words in (
            ({"endpoint": "/v1/moderations"}, "endpoint must be one of"),
            ({"completion_window": "1h"}, "completion_window must be 24h"),
            ({"input_file_id": "file_1"}, "input_file_id must be"),
            ({"metadata": {str(n): "x" for n in range(17)}}, "metadata may have 16"),
            ({"extra_body": {"surprise": 1}}, "surprise is not supported"),
        ):
            wanted: dict[str, Any] = {
                "input_file_id": file.id,
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                **asked,
            }
            with pytest.raises(BadRequestError, match=words):
                client.batches.create(**wanted)
    assert gateway.events == []


class Gate:
    """An engine that answers when it is told to."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.asked: list[str] = []
        self._loop = engine.loop
        self._turns = asyncio.Semaphore(0)
        engine.script = self._script

    async def _script(self, answering: Answering) -> None:
        self.asked.append(answering.asked.body["messages"][-1]["content"])
        await asyncio.wait_for(self._turns.acquire(), 20)
        await answering.answer(whole())

    def let(self, count: int) -> None:
        for _ in range(count):
            self._loop.call_soon_threadsafe(self._turns.release)


def test_a_batch_leaves_slots_to_those_who_ask_themselves(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway(slots=4)
    gate = Gate(engine)
    with client_of(gateway) as client:
        batch = started(client, jsonl(*map(line, range(6))))
        until(lambda: len(gate.asked) == 3)
        wires = []
        for name in ("a", "b"):
            wire = gateway.wire()
            wire.send(post({"model": MODEL, "messages": [{"role": "user", "content": name}]}, gateway.key))
            wires.append(wire)
            until(
                lambda count=len(wires): (
                    len(gate.asked) == 4 if count == 1 else gateway.metric("sublet_gateway_waiting")
                )
            )
        assert gate.asked[3] == "a"
        gate.let(20)
        assert [wire.answer().status for wire in wires] == [200, 200]
        assert gate.asked[4] == "b", "who asks waits for no further line"
        assert ended(client, batch.id).request_counts.completed == 6


def test_a_batch_is_canceled_and_keeps_what_it_has(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway(slots=2)
    gate = Gate(engine)
    with client_of(gateway) as client:
        batch = started(client, jsonl(*map(line, range(4))))
        until(lambda: gate.asked)
        gate.let(1)
        until(lambda: counts_of(client, batch.id).completed == 1)
        assert client.batches.cancel(batch.id).status == "cancelling"
        done = ended(client, batch.id)
        assert done.status == "cancelled" and done.cancelling_at and done.cancelled_at
        assert len(lines_of(client, done.output_file_id)) == 1
        left = lines_of(client, done.error_file_id)
        assert [item["error"]["code"] for item in left] == ["batch_cancelled"] * 3
        until(lambda: gateway.metric("sublet_gateway_in_flight") == 0)
    assert gateway.tokens() == {"tokens.input": 5, "tokens.output": 3}
    gate.let(4)


def test_a_window_ends(make_gateway: Any, engine: ScriptedEngine, store: Store) -> None:
    gateway: Running = make_gateway()
    gate = Gate(engine)
    with client_of(gateway) as client:
        batch = started(client, jsonl(*map(line, range(3))))
        until(lambda: gate.asked)
        gateway.stop()
        past = store.clock.now()
        store.write(lambda connection: connection.execute(update(batches).values(expires_at=past)))
        gateway.start()
    with client_of(gateway) as client:
        done = ended(client, batch.id)
        assert done.status == "expired" and done.expired_at
        assert {item["error"]["code"] for item in lines_of(client, done.error_file_id)} == {"batch_expired"}
    assert gateway.tokens() == {}


def test_a_revoked_key_ends_its_batches(make_gateway: Any, engine: ScriptedEngine, store: Store) -> None:
    gateway: Running = make_gateway()
    accounts = Accounts(store)
    organization = organization_of(store, gateway)
    key, secret = accounts.create_key(organization)
    until(lambda: gateway.get("/v1/models", secret).status == 200)
    gate = Gate(engine)
    with client_of(gateway, secret) as client:
        batch = started(client, jsonl(*map(line, range(3))))
    until(lambda: gate.asked)
    accounts.revoke_key(key.id)
    with client_of(gateway) as client:
        done = ended(client, batch.id)
        assert done.status == "cancelled"
        assert {item["error"]["code"] for item in lines_of(client, done.error_file_id)} == {"invalid_api_key"}


def test_an_engine_that_fails_is_asked_again_and_what_stays_wrong_is_told(
    make_gateway: Any, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sublet.gateway.batches.model.RETRY_S_MIN", 0.01)
    monkeypatch.setattr("sublet.gateway.batches.model.FAILURES_MAX", 2)
    tries: dict[str, int] = {}

    async def script(answering: Answering) -> None:
        text = answering.asked.body["messages"][0]["content"]
        tries[text] = tries.get(text, 0) + 1
        if text == "number 0" and tries[text] < 2:
            await answering.answer({"error": {"message": "busy"}}, 503)
        elif text == "number 1":
            await answering.answer({"error": {"message": "broken"}}, 500)
        else:
            await answering.answer(whole())

    engine.script = script
    gateway: Running = make_gateway()
    with client_of(gateway) as client:
        done = ended(client, started(client, jsonl(*map(line, range(2)))).id)
        assert (done.request_counts.completed, done.request_counts.failed) == (1, 1)
        (wrong,) = lines_of(client, done.error_file_id)
        assert wrong["custom_id"] == "c1" and wrong["response"]["status_code"] >= 500
    assert gateway.tokens() == {"tokens.input": 5, "tokens.output": 3}


def test_a_ledger_that_is_away_delays_a_line_and_bills_it_once(make_gateway: Any, store: Store) -> None:
    gateway: Running = make_gateway(start=False)
    gateway.refuse_events = True
    gateway.start()
    with client_of(gateway) as client:
        batch = started(client, jsonl(line(1)))
        until(lambda: gateway.journal("settle"))
        assert counts_of(client, batch.id).completed == 0
        gateway.refuse_events = False
        store.write(lambda connection: connection.execute(update(batches).values(beat=batches.c.beat + 1)))
        # It rests for five seconds; a gateway that starts goes on at once.
        gateway.stop()
        gateway.start()
    with client_of(gateway) as client:
        assert ended(client, batch.id).request_counts.completed == 1
    assert gateway.tokens() == {"tokens.input": 5, "tokens.output": 3}


def test_a_batch_under_a_hard_budget_is_held_and_costs_the_price_of_its_tier(money: Money, store: Store) -> None:
    half = [
        {**PRICES["prices"][number], "id": f"half-{number}", "amount": amount, "match": {"tier": "batch"}}
        for number, amount in ((1, "0.5"), (2, "5"))
    ]
    assert [PRICES["prices"][number]["meter"] for number in (1, 2)] == ["tokens.input_cached", "tokens.output"]
    money.ledger.publish_prices(book_from_dict({"prices": [*PRICES["prices"], *half]}, "with batches"))
    money.gateway.ledger_within = lambda connection, records: take_usage(
        connection, money.ledger, "gateway", list(records), store.clock.now()
    )
    money.limit(1000 * UNIT)
    with client_of(money.gateway) as client:
        done = ended(client, started(client, jsonl(*(line(number, max_tokens=100) for number in range(3)))).id)
    assert done.request_counts.completed == 3
    # Of each five tokens of prompt and three of answer.
    assert money.rated() == (15 * INPUT_NANO + 9 * OUTPUT_NANO // 2, 0)


def test_a_batch_that_no_budget_covers_any_more_says_so_line_by_line(money: Money, store: Store) -> None:
    money.limit(3 * UNIT)
    with client_of(money.gateway) as client:
        done = ended(client, started(client, jsonl(line(1, max_tokens=1000))).id)
        (wrong,) = lines_of(client, done.error_file_id)
    assert wrong["response"]["body"]["error"]["code"] == "insufficient_quota"
    assert money.rated() == (0, 0)
