"""`sublet lease` against the routes themselves: what a customer types, and what comes back."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.leases.test_api import Site
from tests.leases.world import KEY, World
from tests.terminal import sit_at
from typer.testing import CliRunner

from sublet.commands import leases as commands
from sublet.leases import login
from sublet.leases.model import NoCapacityError
from sublet.ledger.budgets.model import BudgetExceededError
from sublet.shown import time_text
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError


class Shell:
    """Stands where the SSH client would be, and keeps what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(
        self, lease_id: str, door: dict[str, Any], command: Sequence[str], identity: Path | None = None
    ) -> int:
        self.asked.append((lease_id, list(command)))
        self.identity = identity
        return 7


class Customer:
    """Alice at her terminal."""

    def __init__(self, world: World, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = Site(world)
        self.world = world
        self.shell = Shell()
        self.key_file = key_file

        monkeypatch.setenv("HOME", str(key_file.parent))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        sit_at(monkeypatch, self.site.client.app, self.site.keys["alice"])
        monkeypatch.setattr(login, "shell", self.shell)

    def types(self, *words: str, exit_code: int = 0) -> str:
        pool = ("--pool", self.world.pool.name) if words[0] in ("quote", "take") else ()
        done = CliRunner().invoke(commands.app, [words[0], *pool, *words[1:]])
        if isinstance(done.exception, SubletError):
            raise done.exception
        assert done.exit_code == exit_code, done.output
        return done.output

    def take(self, *words: str) -> str:
        """The id of a lease that is ready."""
        lease = json.loads(self.types("take", "--no-wait", "--key", str(self.key_file), "--json", *words))
        self.world.run(4)
        return str(lease["id"])


@pytest.fixture
def alice(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Customer:
    key_file = tmp_path / "key.pub"
    key_file.write_text(KEY)
    return Customer(world, key_file, monkeypatch)


def test_a_quote_says_what_it_costs_and_how_to_take_it(alice: Customer) -> None:
    said = alice.types("quote", "--minutes", "30")
    assert said.startswith("1 accelerator as notice from ") and "per accelerator-hour" in said
    assert "sublet lease take --quote quo" in said


def test_where_there_is_no_room_the_nearest_offer_is_named(alice: Customer, world: World) -> None:
    world.surplus = 1
    with pytest.raises(
        NoCapacityError,
        match=r"not enough capacity for 2 accelerators as spot .* available instead: 1 accelerator as spot$",
    ):
        alice.types("quote", "--class", "spot", "-n", "2")
    world.surplus = 0
    with pytest.raises(NoCapacityError, match=r"not enough capacity for 1 accelerator as spot .* try another window"):
        alice.types("quote", "--class", "spot")


def test_a_generation_of_which_there_is_no_pool_is_named_with_those_that_there_are(
    alice: Customer, world: World
) -> None:
    with pytest.raises(NotFoundError) as refused:
        alice.types("quote", "--generation", "mi300x")
    there = world.pool.generation
    assert refused.value.message == f"there is no pool of generation 'mi300x'; there is {there}"


def test_without_an_id_it_is_the_newest_lease_and_what_is_no_id_is_run_there(alice: Customer) -> None:
    first, second = alice.take(), alice.take()
    alice.types("ssh", exit_code=7)
    alice.types("ssh", "--", "ls", "-l", exit_code=7)
    alice.types("ssh", first, "id", exit_code=7)
    assert alice.shell.asked == [(second, []), (second, ["ls", "-l"]), (first, ["id"])]


def test_show_names_the_guarantees_and_end_gives_it_back(alice: Customer, world: World) -> None:
    lease = alice.take()
    shown = json.loads(alice.types("show", lease, "--json"))
    assert shown["state"] == "active" and shown["guarantees"]
    assert lease in alice.types("ls", "--live")
    assert alice.types("end") == f"{lease} is ending\n"
    world.run(2)
    assert alice.types("ls", "--live").strip() == "no leases; `sublet lease take` rents one"


def test_of_several_leases_the_one_to_end_is_named_and_the_help_says_so(alice: Customer) -> None:
    alice.take(), alice.take()
    with pytest.raises(InvalidInputError, match="you have 2 leases; specify the one to end"):
        alice.types("end")
    told = " ".join(alice.types("end", "--help").replace("│", " ").split())
    assert "can be omitted if you have only one" in told and "newest" not in told


def test_a_budget_that_refuses_leaves_the_quote_and_the_command_says_how_to_go_on(
    alice: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise BudgetExceededError("the budget has 0.10 USD free", free="0.10")

    with monkeypatch.context() as for_now, pytest.raises(BudgetExceededError) as refused:
        for_now.setattr(alice.world.leases, "accept", full)
        alice.take()
    assert refused.value.details == {"free": "0.10"}
    said = re.fullmatch(
        r"the budget has 0\.10 USD free\. The price is valid until (\S+ \S+ \S+); to continue, run: sublet lease take .* (quo_\w+)",
        refused.value.message,
    )
    assert said is not None
    assert said[1] == time_text(alice.world.clock.now() + timedelta(seconds=60), to_the_second=True)
    alice.take("--quote", said[2])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "pool_1"), "is not a lease id"),
        (("quote", "--start", "tomorrow"), "--start"),
        (("take", "--key", "/nowhere/key.pub"), "can't be read; specify a public key"),
    ],
)
def test_bad_words_are_refused(alice: Customer, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        alice.types(*words)
