"""Background responses: polled, followed, gone on with, canceled, and told truthfully after a restart; billed once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI, RateLimitError
from sqlalchemy import select, update
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, chunk, event, timings, until, usage

from sublet.accounts.service import Accounts
from sublet.store import Store
from sublet.store.tables.gateway import background_responses, response_events

OVER = ("completed", "failed", "incomplete", "cancelled")


def client_of(gateway: Running, key: str | None = None) -> OpenAI:
    return OpenAI(base_url=gateway.url + "/v1", api_key=key or gateway.key, max_retries=0)


def ended(client: OpenAI, response_id: str) -> Any:
    def over() -> Any:
        found = client.responses.retrieve(response_id)
        return found if found.status in OVER else None

    return until(over)


class Steps:
    """An engine that sends a word each time it is told to."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.asked = 0
        self._loop = engine.loop
        self._turns = asyncio.Semaphore(0)
        engine.script = self._script

    async def _script(self, answering: Answering) -> None:
        self.asked += 1
        await answering.head()
        for number in range(4):
            await asyncio.wait_for(self._turns.acquire(), 20)
            await answering.part(event(chunk(f"w{number} ", timings=timings(5, number + 1))))
        await answering.part(event(chunk(finish="stop")))
        await answering.part(event({**chunk(), "choices": [], "usage": usage(5, 4), "timings": timings(5, 4)}))
        await answering.part(event("[DONE]"))
        await answering.end()

    def let(self, count: int) -> None:
        for _ in range(count):
            self._loop.call_soon_threadsafe(self._turns.release)


def test_one_is_made_while_nobody_waits_and_then_stored(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway()
    steps = Steps(engine)
    with client_of(gateway) as client:
        made = client.responses.create(model=MODEL, input="one", background=True, metadata={"of": "me"})
        assert made.status in ("queued", "in_progress") and made.background and made.output == []
        until(lambda: client.responses.retrieve(made.id).status == "in_progress")
        steps.let(4)
        done = ended(client, made.id)
        assert (done.status, done.output_text, done.background) == ("completed", "w0 w1 w2 w3 ", True)
        assert (done.usage.input_tokens, done.usage.output_tokens, done.metadata) == (5, 4, {"of": "me"})
        assert done.created_at == made.created_at
        steps.let(4)
        after = client.responses.create(model=MODEL, input="two", previous_response_id=made.id, background=True)
        assert ended(client, after.id).previous_response_id == made.id
        assert [turn["role"] for turn in engine.asked[-1].body["messages"]] == ["user", "assistant", "user"]
        with pytest.raises(ConflictError, match="can't be canceled"):
            client.responses.cancel(made.id)
        with pytest.raises(BadRequestError, match="stream: true"):
            client.responses.retrieve(made.id, stream=True)
        client.responses.delete(made.id)
        with pytest.raises(NotFoundError):
            client.responses.retrieve(made.id)
    assert gateway.tokens() == {"tokens.input": 10, "tokens.output": 8}


def test_a_stream_goes_on_where_it_broke_off(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway()
    steps = Steps(engine)
    with client_of(gateway) as client:
        stream = client.responses.create(model=MODEL, input="one", background=True, stream=True)
        steps.let(2)
        seen = []
        for item in stream:
            seen.append(item)
            if item.type == "response.output_text.delta":
                break
        stream.close()
        name = seen[0].response.id  # type: ignore[union-attr]
        steps.let(2)
        rest = list(client.responses.retrieve(name, stream=True, starting_after=seen[-1].sequence_number))
        assert [item.sequence_number for item in [*seen, *rest]] == list(range(len(seen) + len(rest)))
        assert rest[-1].type == "response.completed" and rest[-1].response.output_text == "w0 w1 w2 w3 "
        again = list(client.responses.retrieve(name, stream=True))
        assert [item.sequence_number for item in again] == list(range(len(again)))
        assert len(again) == len(seen) + len(rest)
        with pytest.raises(BadRequestError, match="starting_after"):
            client.responses.retrieve(name, stream=True, extra_query={"starting_after": "x"})
    assert steps.asked == 1
    assert gateway.tokens() == {"tokens.input": 5, "tokens.output": 4}


def test_one_is_canceled_and_what_was_told_is_billed(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway()
    steps = Steps(engine)
    with client_of(gateway) as client:
        unheard = client.responses.create(model=MODEL, input="one", background=True)
        until(lambda: steps.asked)
        assert client.responses.cancel(unheard.id).status == "cancelled"
        assert client.responses.retrieve(unheard.id).usage is None
        stream = client.responses.create(model=MODEL, input="one", background=True, stream=True)
        # The request before it takes one of them with it.
        steps.let(3)
        name = ""
        for item in stream:
            name = name or item.response.id  # type: ignore[union-attr]
            if item.type == "response.output_text.delta":
                break
        found = client.responses.cancel(name)
        assert found.status == "cancelled" and found.output_text.startswith("w0") and found.usage
        assert list(stream)[-1].response.status == "cancelled"  # type: ignore[union-attr]
    until(lambda: gateway.metric("sublet_gateway_in_flight") == 0)
    assert gateway.tokens() == {"tokens.input": 5, "tokens.output": found.usage.output_tokens}


def test_a_restart_goes_on_or_says_so(make_gateway: Any, engine: ScriptedEngine, store: Store) -> None:
    gateway: Running = make_gateway()
    steps = Steps(engine)
    with client_of(gateway) as client:
        plain = client.responses.create(model=MODEL, input="one", background=True)
        stream = client.responses.create(model=MODEL, input="one", background=True, stream=True)
        until(lambda: steps.asked == 2)
        steps.let(3)
        events = iter(stream)
        first = next(events)
        heard = first.response.id  # type: ignore[union-attr]
        until(lambda: written(store))
    gateway.stop()
    gateway.start()
    steps.let(20)
    with client_of(gateway) as client:
        assert ended(client, plain.id).output_text == "w0 w1 w2 w3 "
        failed = ended(client, heard)
        assert failed.status == "failed" and "restarted" in failed.error.message
        told = list(client.responses.retrieve(heard, stream=True))
        assert [item.sequence_number for item in told] == list(range(len(told)))
        assert told[-1].type == "response.failed"
    assert gateway.tokens() == {"tokens.input": 5, "tokens.output": 4}


def test_an_organization_follows_only_so_many_at_once(
    make_gateway: Any, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sublet.gateway.background.worker.FOLLOWERS_PER_ORGANIZATION_MAX", 2)
    gateway: Running = make_gateway()
    steps = Steps(engine)
    with client_of(gateway) as client:
        first = client.responses.create(model=MODEL, input="x", background=True, stream=True)
        steps.let(1)
        name = next(iter(first)).response.id  # type: ignore[union-attr]
        second = client.responses.retrieve(name, stream=True)
        next(iter(second))
        with pytest.raises(RateLimitError, match="follows 2"):
            client.responses.retrieve(name, stream=True)
        second.close()
        until(lambda: gateway.get(f"/v1/responses/{name}").status == 200)
        steps.let(3)
        assert list(first)[-1].type == "response.completed"
        assert list(client.responses.retrieve(name, stream=True))[-1].type == "response.completed"


def test_what_waits_counts_toward_the_size_that_an_organization_may_store(
    make_gateway: Any, engine: ScriptedEngine, store: Store
) -> None:
    gateway: Running = make_gateway(responses_mib_per_organization_max=1)
    stranger: Running = make_gateway(responses_mib_per_organization_max=1)
    steps = Steps(engine)
    long = "word " * 120_000
    with client_of(gateway) as client, client_of(stranger) as other:
        first = client.responses.create(model=MODEL, input=long, background=True)
        with pytest.raises(RateLimitError, match="1 MiB of requests"):
            client.responses.create(model=MODEL, input=long, background=True)
        with pytest.raises(RateLimitError, match="send it without `background`"):
            client.responses.create(model=MODEL, input=long * 2, background=True)
        assert len(rows(store)) == 1, "what is refused is not written down"
        small = client.responses.create(model=MODEL, input="x", background=True)
        apart = other.responses.create(model=MODEL, input=long, background=True)
        steps.let(20)
        for made, asked in ((first, client), (small, client), (apart, other)):
            assert ended(asked, made.id).status == "completed"
        again = client.responses.create(model=MODEL, input=long, background=True)
        steps.let(20)
        assert ended(client, again.id).status == "completed", "what is over counts no more"


def written(store: Store) -> bool:
    with store.read() as connection:
        return connection.execute(select(response_events.c.number)).first() is not None


def test_what_can_not_be_is_refused_and_nobody_sees_what_is_anothers(
    make_gateway: Any, engine: ScriptedEngine, store: Store
) -> None:
    gateway: Running = make_gateway()
    stranger: Running = make_gateway()
    with client_of(gateway) as client:
        with pytest.raises(BadRequestError, match="store must not be false"):
            client.responses.create(model=MODEL, input="x", background=True, store=False)
        with pytest.raises(NotFoundError):
            client.responses.create(model="other", input="x", background=True)
        with pytest.raises(NotFoundError):
            client.responses.create(model=MODEL, input="x", background=True, previous_response_id="resp_1")
        with pytest.raises(NotFoundError):
            client.responses.cancel("resp_1")
        Steps(engine)
        made = client.responses.create(model=MODEL, input="x", background=True, stream=True)
        name = next(iter(rows(store)))
        with client_of(stranger) as other:
            for act in (other.responses.retrieve, other.responses.cancel):
                with pytest.raises(NotFoundError):
                    act(name)
            with pytest.raises(BadRequestError):
                other.responses.retrieve(name, stream=True)
        assert client.responses.cancel(name).status == "cancelled"
        made.close()
    off: Running = make_gateway(responses_keep_days=0)
    with client_of(off) as client, pytest.raises(BadRequestError, match="turned it off"):
        client.responses.create(model=MODEL, input="x", background=True)


def rows(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(background_responses.c.id)).scalars())


def test_one_whose_key_is_gone_or_whose_time_is_over_fails(
    make_gateway: Any, engine: ScriptedEngine, store: Store
) -> None:
    gateway: Running = make_gateway()
    Steps(engine)
    accounts = Accounts(store)
    organization = accounts.authenticate(gateway.key).organization_id
    key, secret = accounts.create_key(organization)
    until(lambda: gateway.get("/v1/models", secret).status == 200)
    with client_of(gateway, secret) as client:
        revoked = client.responses.create(model=MODEL, input="x", background=True)
    accounts.revoke_key(key.id)
    _, short = accounts.create_key(organization, expires_at=store.clock.now() + timedelta(minutes=1))
    until(lambda: gateway.get("/v1/models", short).status == 200)
    with client_of(gateway, short) as client:
        expired = client.responses.create(model=MODEL, input="x", background=True)
    gateway.stop()
    store.clock.advance(61)  # type: ignore[attr-defined]
    gateway.start()
    with client_of(gateway) as client:
        assert ended(client, revoked.id).status == "failed"
        assert "expired" in ended(client, expired.id).error.message
        late = client.responses.create(model=MODEL, input="x", background=True)
        gateway.stop()
        past = store.clock.now()
        store.write(lambda connection: connection.execute(update(background_responses).values(expires_at=past)))
        gateway.start()
    with client_of(gateway) as client:
        assert "hour" in ended(client, late.id).error.message
    assert gateway.tokens() == {}
