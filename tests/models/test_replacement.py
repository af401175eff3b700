"""A catalog entry that changes: its replicas are replaced by plan, and what serves goes on serving meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.models.catalog import BUILT_IN
from sublet.models.model import CatalogEntry, Deployment, Replica
from sublet.models.planner import DRAIN, START, World, plan
from sublet.models.service import Models
from sublet.store import Store
from sublet.values.errors import InvalidInputError

NOW = datetime(2026, 1, 5, tzinfo=UTC)
ENTRY = replace(BUILT_IN, name="m")
URL_ENTRY = CatalogEntry("m", "openai_url", {"url": "http://one/v1"}, accelerators=0)


def deployment(scale: int) -> Deployment:
    return Deployment("dep_m", "m", ("pool",), 0, 64, scale, "active", NOW, NOW)


def replica(number: int, entry: CatalogEntry | None, state: str = "ready") -> Replica:
    began = entry or ENTRY
    return Replica(
        f"rep_{number}",
        "dep_m",
        "m",
        "pool",
        began.accelerators,
        state,
        began.slots,
        "",
        NOW + timedelta(seconds=number),
        entry=entry,
    )


def world(entry: CatalogEntry, scale: int, replicas: Sequence[Replica], room: int) -> World:
    return World(NOW, [deployment(scale)], replicas, {"m": entry}, {"pool": room}, {"dep_m": 100})


def steps(entry: CatalogEntry, scale: int, replicas: Sequence[Replica], room: int = 8) -> list[tuple[str, str]]:
    found = plan(world(entry, scale, replicas, room)).steps
    return [(step.kind, step.subject if step.kind == DRAIN else "") for step in found]


@pytest.mark.parametrize(
    "changed",
    [
        replace(ENTRY, slots=9),
        replace(ENTRY, context_tokens=4096),
        replace(ENTRY, source={"path": "/other.gguf"}),
        replace(ENTRY, sha256=None),
        URL_ENTRY,
    ],
)
def test_a_new_replica_comes_first_and_the_old_one_drains_once_it_answers(changed: CatalogEntry) -> None:
    old = replica(1, ENTRY)
    assert steps(changed, 1, [old]) == [(START, "")]
    assert steps(changed, 1, [old, replica(2, changed, "starting")]) == []
    assert steps(changed, 1, [old, replica(2, changed)]) == [(DRAIN, "rep_1")]
    assert steps(changed, 1, [replica(2, changed)]) == []


def test_without_room_for_both_one_at_a_time_makes_place() -> None:
    changed = replace(ENTRY, slots=9)
    first, second = replica(1, ENTRY), replica(2, ENTRY)
    assert steps(changed, 2, [first, second], room=2) == [(DRAIN, "rep_2")]
    assert steps(changed, 2, [first, replace(second, state="draining")], room=2) == []
    assert steps(changed, 2, [first], room=2) == [(START, "")]
    assert steps(changed, 2, [first, replica(3, changed, "starting")], room=2) == []
    assert steps(changed, 2, [first, replica(3, changed)], room=2) == [(DRAIN, "rep_1")]


def test_an_outdated_replica_that_does_not_answer_drains_at_once() -> None:
    wrong = replace(URL_ENTRY, source={"url": "http://typo/v1"})
    assert steps(URL_ENTRY, 1, [replica(1, wrong, "starting")]) == [(START, ""), (DRAIN, "rep_1")]


def test_the_same_url_is_never_there_twice() -> None:
    more_slots = replace(URL_ENTRY, slots=64)
    assert steps(more_slots, 1, [replica(1, URL_ENTRY)]) == [(START, ""), (DRAIN, "rep_1")]
    assert steps(URL_ENTRY, 5, []) == [(START, "")]
    assert steps(URL_ENTRY, 5, [replica(1, URL_ENTRY), replica(2, URL_ENTRY)]) == [(DRAIN, "rep_2")]


def test_words_and_capabilities_need_no_new_engine() -> None:
    told = replace(ENTRY, description="new", license="MIT", capabilities=frozenset({"chat"}))
    assert steps(told, 1, [replica(1, ENTRY)]) == []


def test_a_replica_of_an_older_version_is_replaced_where_its_slots_differ() -> None:
    assert steps(ENTRY, 1, [replica(1, None)]) == []
    assert steps(replace(ENTRY, slots=5), 1, [replica(1, None)]) == [(START, "")]


@given(
    st.integers(0, 5),
    st.integers(0, 8),
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.tuples(st.booleans(), st.sampled_from(["starting", "ready", "draining"])), max_size=6),
)
def test_a_replacement_ends_with_what_is_wanted_and_keeps_to_the_room(
    scale: int, room: int, size: int, old_size: int, there: list[tuple[bool, str]]
) -> None:
    entry = replace(ENTRY, accelerators=size, slots=9)
    began = replace(ENTRY, accelerators=old_size)
    replicas = [replica(number, began if old else entry, state) for number, (old, state) in enumerate(there)]
    occupied = max(room, sum(item.accelerators for item in replicas))
    for turn in range(60):
        quiet = all(item.state == "ready" for item in replicas)
        planned = plan(world(entry, scale, replicas, room)).steps
        if quiet and not planned:
            break
        drained = {step.subject for step in planned if step.kind == DRAIN}
        # What drained before is gone, what was started answers.
        replicas = [
            replace(item, state="draining") if item.id in drained else replace(item, state="ready")
            for item in replicas
            if item.state != "draining"
        ]
        assert sum(step.kind == START for step in planned) <= scale
        replicas += [replica(1000 + turn * 100 + n, entry, "starting") for n in range(len(planned) - len(drained))]
        assert sum(item.accelerators for item in replicas) <= occupied
    else:
        raise AssertionError("it never came to rest")
    assert all(item.entry == entry for item in replicas)
    assert len(replicas) == min(scale, room // size)


def added(tmp_path: Path, models: Models, text: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    models.add(file)


def test_a_url_model_has_one_replica_and_a_request_for_more_says_so(store: Store, tmp_path: Path) -> None:
    models = Models(store)
    added(tmp_path, models, "[[models]]\nname='far'\nengine='openai_url'\nsource={url='http://one/v1'}\n")
    with pytest.raises(InvalidInputError, match="a single URL, so it can have at most 1 replica, not 2"):
        models.deploy("far", "pool", scale=2)
    models.deploy("far", "pool", scale=1)
    with pytest.raises(InvalidInputError, match="raise its slots"):
        models.scale("far", 3)
