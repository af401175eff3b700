"""Several gateway processes on one budget, and a gateway that is killed with requests held: no limit is passed, nothing
stays held."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.gateway import served_budgets
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
from tests.gateway.processes import start_gateway
from tests.gateway.test_budgets import INPUT_NANO, OUTPUT_NANO, PRICES, UNIT
from tests.ledger.prepaid import prepay

from sublet.accounts.service import Accounts
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store.tables.ledger import budget_states, holds


@dataclass
class Site:
    """Gateways as processes, one database, one organization."""

    store: Store
    ledger: Ledger
    organization: str
    key: str
    folder: Path
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, name: str) -> tuple[str, int]:
        """A gateway with a data directory of its own; its address."""
        url = self.store.url.render_as_string(hide_password=False)
        command = [sys.executable, str(Path(served_budgets.__file__)), url, str(self.folder / name)]
        return start_gateway(command, self.children)

    def kill(self) -> None:
        child = self.children[-1]
        child.send_signal(signal.SIGKILL)
        child.wait(20)

    def state(self) -> tuple[int, int]:
        with self.store.read() as connection:
            rows = connection.execute(select(budget_states)).all()
        return sum(row.spent_nano for row in rows), sum(row.held_nano for row in rows)

    def rated(self) -> int:
        """What is spent once nothing is held any more and all is rated."""

        def settled() -> bool:
            self.ledger.rate()
            with self.store.read() as connection:
                live = connection.execute(select(holds.c.id).where(holds.c.state.in_(("open", "settled")))).first()
            return live is None

        until(settled, seconds=60)
        spent, held = self.state()
        assert held == 0
        assert self.ledger.prove().findings == []
        return spent

    def allowances(self) -> int:
        with self.store.read() as connection:
            return len(connection.execute(select(holds.c.id).where(holds.c.id.startswith("alw_"))).all())

    def held_requests(self) -> int:
        with self.store.read() as connection:
            return len(connection.execute(select(holds.c.id).where(holds.c.state == "open")).all())


@pytest.fixture
def site(any_store: Store, tmp_path: Path, engine: ScriptedEngine) -> Iterator[Site]:
    # The gateways have the system's clock, and so must anyone who rates their usage.
    store = Store(any_store.url.render_as_string(hide_password=False))
    accounts = Accounts(store)
    organization = accounts.create_organization("customer").id
    _, secret = accounts.create_key(organization)
    add_model(store, MODEL, engine="llamacpp")
    add_replica(store, MODEL, engine.url, slots=64)
    ledger = Ledger(store)
    ledger.publish_prices(book_from_dict(PRICES, "prices"))
    made = Site(store, ledger, organization, secret, tmp_path)
    yield made
    for child in made.children:
        if child.poll() is None:
            child.kill()
            child.wait()
    store.close()


def whole_answers(engine: ScriptedEngine) -> Counter[int]:
    """Every request uses what it may at most of its answer, and five tokens of prompt; how many there were of each size."""
    answered: Counter[int] = Counter()

    async def script(answering: Answering) -> None:
        tokens = answering.asked.body["max_tokens"]
        answered[tokens] += 1
        await answering.stream(
            chunk("x", timings=timings(5, 1)),
            {**chunk(finish="length"), "usage": usage(5, tokens), "timings": timings(5, tokens)},
        )

    engine.script = script
    return answered


@pytest.mark.parametrize(("kind", "limit"), [("budget", 40 * UNIT), ("prepaid", 40 * UNIT), ("budget", 600 * UNIT)])
def test_b12_b16_two_gateways_and_four_dozen_clients_pass_no_limit_to_the_last_unit(
    site: Site, engine: ScriptedEngine, kind: str, limit: int
) -> None:
    """Of a large one both hold parts at once (see allowances.py), of a small one each request holds its own."""
    answered = whole_answers(engine)
    if kind == "budget":
        budget = site.ledger.create_budget(new_budget(site.organization, limit, period="ever", thresholds=())).id
    else:
        prepay(site.ledger, site.organization, limit, "bank-1")
    addresses = [site.start("one"), site.start("two")]
    got: Counter[int] = Counter()
    counting = threading.Lock()
    over: list[int] = []

    def client(number: int) -> None:
        tokens = 20 + number % 7 * 30
        refusals = 0
        while refusals < 3:
            wire = Wire(addresses[number % 2])
            wire.send(post(ask(max_tokens=tokens), site.key, extra="connection: close\r\n"))
            answer = wire.answer()
            wire.close()
            if answer.status == 503:
                # Two processes write one SQLite file, and a busy machine may keep one of them waiting: nothing was asked.
                assert answer.json["error"]["code"] == "budget_unreachable"
                continue
            assert answer.status in (200, 429), answer.body
            if answer.status == 429:
                refusals += 1
                assert answer.json["error"]["code"] == "insufficient_quota"
            with counting:
                got[tokens if answer.status == 200 else 0] += 1
            spent, held = site.state()
            if spent + held > limit:
                over.append(spent + held)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(48)]
    for thread in clients:
        thread.start()
    while any(thread.is_alive() for thread in clients):
        site.ledger.rate(batch=37)
    spent = site.rated()
    assert not over
    del got[0]
    assert got == answered
    assert spent == sum(count * (5 * INPUT_NANO + tokens * OUTPUT_NANO) for tokens, count in got.items())
    # How much is left depends on how many were under way when the clients gave up.
    assert 0 < spent <= limit
    assert site.allowances() > 0 if limit > 40 * UNIT else site.allowances() == 0
    if kind == "budget":
        site.ledger.change_budget(budget, limit * 2)
    else:
        prepay(site.ledger, site.organization, limit, "bank-2")
    for address in addresses:
        wire = Wire(address)
        wire.send(post(ask(max_tokens=100), site.key))
        assert wire.answer().status == 200
        wire.close()
    assert site.rated() == spent + 2 * (5 * INPUT_NANO + 100 * OUTPUT_NANO)


def test_a_gateway_killed_with_requests_held_leaves_nothing_held_and_bills_what_was_delivered(
    site: Site, engine: ScriptedEngine
) -> None:
    """Some are in mid-stream, some wait for their first token, some for a slot; then the next gateway starts."""

    async def script(answering: Answering) -> None:
        seed = answering.asked.body["seed"]
        if seed < 4:
            await answering.head()
            for number in range(seed):
                await answering.part(event(chunk(f"t{number};", timings=timings(9, number + 1))))
        await answering.gone()

    engine.script = script
    # Enough for all of them, and not for an allowance.
    site.ledger.create_budget(new_budget(site.organization, 1_700 * UNIT, period="ever", thresholds=()))
    address = site.start("one")
    wires = []
    for seed in range(70):
        wire = Wire(address)
        wire.send(post(ask(stream=True, seed=seed), site.key))
        wires.append(wire)
        if seed in (1, 2, 3):
            wire.read_until(f"t{seed - 1};".encode())
    until(lambda: site.held_requests() == 70 and len(engine.asked) == 64, seconds=60)
    site.kill()
    delivered = 3 * 9 * INPUT_NANO + (1 + 2 + 3) * OUTPUT_NANO
    assert site.state()[0] == 0
    site.start("one")
    assert site.rated() == delivered
    site.kill()
    site.start("one")
    assert site.rated() == delivered
    for wire in wires:
        wire.close()


def test_a_gateway_killed_again_and_again_under_load_leaves_nothing_held(site: Site, engine: ScriptedEngine) -> None:
    answered = whole_answers(engine)
    limit = 10_000 * UNIT
    site.ledger.create_budget(new_budget(site.organization, limit, period="ever", thresholds=()))
    seen = 0
    for _ in range(3):
        address = site.start("one")
        complete: list[int] = []

        def client(to: tuple[str, int] = address, complete: list[int] = complete) -> None:
            while True:
                try:
                    wire = Wire(to)
                    wire.send(post(ask(max_tokens=50), site.key, extra="connection: close\r\n"))
                    text = wire.read_all()
                    wire.close()
                except OSError:
                    return
                if not (text.startswith(b"HTTP/1.1 200") and text.endswith(b"}")):
                    return
                complete.append(1)

        clients = [threading.Thread(target=client) for _ in range(12)]
        for thread in clients:
            thread.start()
        until(lambda complete=complete: len(complete) >= 40, seconds=60)
        site.kill()
        for thread in clients:
            thread.join(30)
        seen += len(complete)
    site.start("one")
    spent = site.rated()
    each = 5 * INPUT_NANO + 50 * OUTPUT_NANO
    assert site.allowances() > 0
    # Anyone who saw the end of an answer pays for it; of what was never seen whole, nobody pays more than was made.
    assert seen * each <= spent <= answered[50] * each
