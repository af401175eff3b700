"""The playground: a person's session asks the gateway, streams the answer, stops it, and no key is ever seen."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.console.serving import TIMEOUT_MS, chromium, free_port, keep_picture, serving
from tests.gateway.conftest import engine, make_gateway  # noqa: F401
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, chunk, until, usage

from sublet.accounts.oidc.service import SignInElsewhere
from sublet.accounts.passkeys.service import Passkeys
from sublet.accounts.people.playground import PlaygroundKeys
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import Sessions
from sublet.accounts.service import Accounts
from sublet.console import playground
from sublet.console.account import account_screen
from sublet.console.doors import Doors
from sublet.console.frame import Pages
from sublet.console.pages import router
from sublet.console.passkeys import passkey_router
from sublet.console.playground import Playing, Tokens, playground_router, playground_screen
from sublet.console.signing import signing_router
from sublet.console.snippets import snippets
from sublet.models.catalog import BUILT_IN
from sublet.reporting.chatting import answer_cost, chat_models
from sublet.simulation.world import World
from sublet.store import Store
from sublet.store.sealing import sealing_of
from sublet.tls.authority import Authority
from sublet.tls.files import CertificateFiles
from sublet.values.clock import SimulatedClock
from sublet.values.money import Money

ADA, GOOD = "ada@example.com", "a long walk by the sea"
EVIL = "<script>document.title='broken in'</script><img src=x onerror=alert(1)>"
ORIGIN = {"Origin": "http://testserver"}


@dataclass
class Served:
    """A console with a playground in front of a gateway and a scripted engine."""

    app: FastAPI
    accounts: Accounts
    people: People
    keys: PlaygroundKeys
    gateway: Running
    engine: ScriptedEngine
    sessions: Sessions

    def browser(self, email: str = ADA) -> TestClient:
        client = TestClient(self.app, follow_redirects=False)
        signed = client.post("/login", data={"email": email, "password": GOOD}, headers=ORIGIN)
        assert signed.status_code == 303
        return client


@pytest.fixture
def files(request: pytest.FixtureRequest, tmp_path: Path) -> CertificateFiles | None:
    """The gateway's certificate, where a test asks for one."""
    if not getattr(request, "param", False):
        return None
    authority = Authority(tmp_path / "tls")
    authority.create(["models.example.com"], datetime.now(UTC))
    return CertificateFiles(authority.certificate, authority.private_key)


@pytest.fixture
def served(
    store: Store,
    files: CertificateFiles | None,
    tmp_path: Path,
    make_gateway: Callable[..., Running],  # noqa: F811
    engine: ScriptedEngine,  # noqa: F811
) -> Served:
    accounts = Accounts(store)
    people, sessions = People(accounts), Sessions(accounts)
    acme = accounts.create_organization("acme")
    people.accept(people.invite(acme, ADA, "customer_developer", "k").secret, "Ada", GOOD, "")
    people.accept(people.invite(acme, "bill@example.com", "customer_billing", "k").secret, "Bill", GOOD, "")
    elsewhere = SignInElsewhere(accounts, sessions, {}, "", lambda: sealing_of(tmp_path))
    doors = Doors(sessions, people, elsewhere, Passkeys(accounts, sessions))
    gateway = make_gateway(tls=files)
    keys = PlaygroundKeys(store, lambda: sealing_of(tmp_path))
    playing = Playing(keys.secret_of, lambda: [MODEL], priced, gateway.url, "https://models.example.com")
    if files is not None:
        playing = replace(playing, trust=files.trust)
    shown = (account_screen(doors), playground_screen(playing))
    pages, app = Pages(shown), FastAPI()
    app.include_router(signing_router(doors, pages))
    app.include_router(passkey_router(doors, pages))
    app.include_router(playground_router(sessions, playing))
    app.include_router(router(accounts, sessions, pages, shown))
    return Served(app, accounts, people, keys, gateway, engine, sessions)


def priced(organization_id: str, model: str, used: Tokens) -> Money:
    assert model == MODEL
    return Money(1000 * used.input + 100 * used.input_cached + 2000 * used.output)


def token(client: TestClient) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', client.get("/playground").text)
    assert found is not None
    return found[1]


def body(**more: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": "hi"}]
    return {"model": MODEL, "messages": said, "max_tokens": 8, "temperature": 0, "top_p": 1, **more}


def asked(client: TestClient, **more: Any) -> Any:
    headers = {**ORIGIN, "X-Form-Token": token(client)}
    return client.post("/playground/answer", json=body(**more), headers=headers)


def items(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize("files", [False, True], indirect=True, ids=["http", "https"])
def test_an_answer_streams_and_tells_what_it_cost(served: Served, store: Store) -> None:
    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hel"), chunk("lo"), chunk(finish="stop", usage=usage(5, 3, cached=2)))

    served.engine.script = script
    client = served.browser()
    answer = asked(client, messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}])
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    found = items(answer.text)
    said = "".join(item["choices"][0]["delta"].get("content") or "" for item in found if item.get("choices"))
    assert said == "Hello"
    [last] = [item for item in found if "cost" in item]
    # 3 input, 2 cached input and 3 output tokens, at the prices above.
    assert last["cost"] == "0.0000092 USD" and last["request_id"]
    assert served.engine.asked[-1].body["messages"][0] == {"role": "system", "content": "Be brief."}
    until(lambda: served.gateway.tokens() == {"tokens.input": 3, "tokens.input_cached": 2, "tokens.output": 3})
    [record] = {record.key_id: record for record in served.gateway.events}.values()
    assert record.organization_id == served.accounts.organization("acme").id
    # The key is the playground's own: it is not listed, and what the browser got has none.
    assert record.key_id not in [key.id for key in served.accounts.keys(record.organization_id)]
    assert "sublet_" not in answer.text + client.get("/playground").text


def test_the_same_key_is_used_again_renewed_in_time_and_ends_with_the_membership(
    served: Served, store: Store, clock: SimulatedClock
) -> None:
    acme = served.accounts.organization("acme")
    session = served.sessions.find(served.browser().cookies["sublet_session"])
    assert session is not None and session.person is not None
    first = served.keys.secret_of(session)
    assert served.keys.secret_of(session) == first
    actor = served.accounts.authenticate(first)
    assert actor.may("inference:use") == "own" and not actor.may("leases:read")
    clock.advance(timedelta(minutes=45).total_seconds())
    second = served.keys.secret_of(session)
    assert second != first and served.accounts.authenticate(second).key_id == actor.key_id
    with pytest.raises(Exception, match="unknown, expired or revoked"):
        served.accounts.authenticate(first)
    served.people.remove(acme, session.person.id)
    with pytest.raises(Exception, match="unknown, expired or revoked"):
        served.accounts.authenticate(second)


@pytest.mark.parametrize(
    ("headers", "fields", "status", "sentence"),
    [
        ({"X-Form-Token": "guess"}, {}, 403, "another site or an outdated page"),
        ({"Origin": "https://elsewhere.test"}, {}, 403, "another site or an outdated page"),
        ({"Sec-Fetch-Site": "cross-site"}, {}, 403, "another site or an outdated page"),
        ({}, {"model": "no-such"}, 404, "no-such"),
        ({}, {"model": ""}, 400, "choose a model"),
        ({}, {"messages": []}, 400, "1 to 200 messages"),
        ({}, {"n": 9}, 400, "can't be read"),
        ({}, {"temperature": "hot"}, 400, "can't be read"),
        ({}, {"messages": [{"role": "user", "content": "x" * 300_000}]}, 400, "256 KiB"),
        ({}, {"max_tokens": -1}, 400, "max_tokens"),
    ],
)
def test_what_is_wrong_is_said(
    served: Served, headers: dict[str, str], fields: dict[str, Any], status: int, sentence: str
) -> None:
    client = served.browser()
    sent = {**ORIGIN, "X-Form-Token": token(client), **headers}
    answer = client.post("/playground/answer", json=body(**fields), headers=sent)
    assert answer.status_code == status and sentence in answer.json()["error"]["message"]
    assert served.engine.asked == []


def test_who_may_not_call_models_gets_nothing(served: Served, store: Store) -> None:
    stranger = TestClient(served.app, follow_redirects=False)
    assert stranger.post("/playground/answer", json=body(), headers=ORIGIN).status_code == 401
    assert stranger.get("/playground").headers["location"] == "/login?next=/playground"
    bill = served.browser("bill@example.com")
    assert bill.get("/playground").status_code == 403
    form_token = re.search(r'name="form_token" value="([^"]+)"', bill.get("/account").text)
    assert form_token is not None
    answer = bill.post("/playground/answer", json=body(), headers={**ORIGIN, "X-Form-Token": form_token[1]})
    assert answer.status_code == 403 and "inference:use" in answer.json()["error"]["message"]
    # A key's own limits and budgets would not count for another key.
    key = TestClient(served.app, follow_redirects=False)
    assert key.post("/login", data={"key": served.gateway.key}, headers=ORIGIN).status_code == 303
    assert "sign in as a person" in key.get("/playground").text
    token_of_key = re.search(r'name="form_token" value="([^"]+)"', key.get("/account").text)
    assert token_of_key is not None
    answer = key.post("/playground/answer", json=body(), headers={**ORIGIN, "X-Form-Token": token_of_key[1]})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "playground_person"
    assert served.engine.asked == []


def test_a_gateway_that_is_away_is_said_and_counts_nothing(served: Served) -> None:
    client = served.browser()
    served.gateway.stop()
    for _ in range(playground.STREAMS_PER_SESSION_MAX + 1):
        answer = asked(client)
        assert answer.status_code == 503 and answer.json()["error"]["message"] == playground.AWAY


def test_an_engine_that_breaks_off_is_said_in_the_stream(served: Served) -> None:
    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hel"), done=False)
        answering.writer.close()

    served.engine.script = script
    answer = asked(served.browser())
    assert answer.status_code == 200
    assert any("error" in item for item in items(answer.text))


def test_the_code_is_complete_and_carries_what_was_asked() -> None:
    values = {
        "model": "m",
        "system": "",
        "prompt": 'it\'s "@system@" \\ 你好',
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 1.0,
    }
    found = snippets("https://models.example.com")
    assert len(found) == 6
    for item in found:
        text = item.filled(values)
        assert "https://models.example.com" in text and "YOUR_KEY" in text
        assert "system" not in text.replace("@system@", "")
        assert "system" in item.filled({**values, "system": "Be brief."})
        if item.label.endswith("Python"):
            strings = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
            assert values["prompt"] in strings
        elif item.is_shell:
            words = shlex.split(text.replace("\\\n", " "))
            assert json.loads(words[words.index("-d") + 1])["messages"][0]["content"] == values["prompt"]


@pytest.mark.real
def test_the_code_answers_in_the_real_sdks(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Each program as the page shows it, but for the key. boto3 wants https, and JavaScript a runtime."""

    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hello"), chunk(finish="stop", usage=usage(5, 3)))

    served.engine.script = script
    values = {"model": MODEL, "system": "Be brief.", "prompt": "hi", "max_tokens": 7, "temperature": 0.5, "top_p": 1.0}
    for item in snippets(served.gateway.url):
        if item.id in ("openai", "anthropic", "gemini"):
            exec(compile(item.filled(values).replace("YOUR_KEY", served.gateway.key), item.id, "exec"), {})
            assert capsys.readouterr().out == "Hello", item.id


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.mark.real
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_a_person_chats_stops_and_copies_code(served: Served, browser: Any, width: int, scheme: str) -> None:
    gone = threading.Event()

    async def script(answering: Answering) -> None:
        if "slow" in json.dumps(answering.asked.body):
            await answering.head()
            await answering.part(b"data: " + json.dumps(chunk("Slow")).encode() + b"\n\n")
            await answering.gone()
            gone.set()
            return
        await asyncio.sleep(0)
        await answering.stream(chunk(EVIL), chunk(" end"), chunk(finish="stop", usage=usage(5, 3)))

    served.engine.script = script
    with serving(served.app, free_port()) as port:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        home = f"http://localhost:{port}"
        page.goto(f"{home}/login")
        page.fill("#email", ADA)
        page.fill("#password", GOOD)
        page.press("#password", "Enter")
        page.wait_for_selector("header.top")
        page.goto(f"{home}/playground")
        page.fill("#prompt", "hello there")
        page.press("#prompt", "Enter")
        page.wait_for_selector(".turn.theirs .meta:has-text('USD')")
        assert page.locator(".turn.theirs .said").inner_text() == EVIL + " end"
        assert "5 tokens in, 3 out" in page.locator(".meta").inner_text()
        assert page.title() == "Playground · Sublet"
        page.fill("#system", "Be brief.")
        page.fill("#prompt", "a slow one, it's")
        assert '{"role": "system", "content": "Be brief."}' in page.locator("#code-openai").inner_text()
        assert "it'\\''s" in page.locator("#code-curl").text_content()
        page.click("#send")
        page.wait_for_selector(".theirs .said:has-text('Slow')")
        page.click("#stop")
        page.wait_for_selector("text=Stopped.")
        assert gone.wait(10), "the engine is told"
        sent = served.engine.asked[-1].body["messages"]
        assert [item["role"] for item in sent] == ["system", "user", "assistant", "user"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints == []
        keep_picture(page, f"playground-{scheme}-{width}")
        context.close()


def test_models_that_chat_and_what_an_answer_costs(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    try:
        assert chat_models(world.system) == []
        world.system.models.deploy(BUILT_IN.name, world.pool.id)
        assert chat_models(world.system) == [BUILT_IN.name]
        owner = world.system.accounts.create_organization("acme", currency="USD")
        cost = answer_cost(world.system)
        one = cost(owner.id, BUILT_IN.name, Tokens(1000, 0, 0))
        other = cost(owner.id, BUILT_IN.name, Tokens(1000, 0, 500))
        assert one is not None and other is not None and 0 < one.nano < other.nano
        assert cost(owner.id, BUILT_IN.name, Tokens(0, 0, 0)) == Money(0)
    finally:
        world.close()
