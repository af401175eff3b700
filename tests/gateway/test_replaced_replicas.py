"""A model whose catalog entry changes under load: its requests move to the new replica."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, ask, until, whole

from sublet.models.catalog import BUILT_IN
from sublet.models.model import CatalogEntry
from sublet.models.service import Models
from sublet.models.store import save_entry, update_replica
from sublet.store import Store
from sublet.wiring.model_api import load_snapshot


def test_adding_a_model_again_moves_its_requests_to_the_new_url_and_none_fails(
    make_gateway: Callable[..., Running], engine: ScriptedEngine, store: Store
) -> None:
    async def echo(answering: Answering) -> None:
        await answering.answer(whole(answering.asked.body["model"]))

    engine.script = echo
    other = ScriptedEngine()
    other.script = echo
    gateway = make_gateway()
    models = Models(store)

    def entry(url: str, model: str, slots: int) -> CatalogEntry:
        return CatalogEntry(MODEL, "openai_url", {"url": url, "model": model}, slots=slots, accelerators=0)

    def served_by() -> str:
        answer = gateway.post(ask())
        assert answer.status == 200
        return str(answer.json["choices"][0]["message"]["content"])

    def answers(slots: int) -> None:
        """What the engine host does: whatever starts answers, whatever drains ends."""
        for item in models.replicas():
            if item.state == "starting":
                assert item.entry is not None and item.slots == item.entry.slots == slots
                values: dict[str, Any] = {"state": "ready", "endpoint": item.entry.source["url"]}
            elif item.state == "draining":
                values = {"state": "stopped", "endpoint": None, "stopped_at": store.clock.now()}
            else:
                continue
            store.write(
                lambda connection, item=item, values=values: update_replica(
                    connection, item.id, (item.state,), **values
                )
            )

    def change(entry: CatalogEntry) -> None:
        store.write(lambda connection: save_entry(connection, entry, store.clock.now()))

    try:
        change(entry(engine.url, "first", 4))
        models.carry_out(models.plan({}))
        answers(4)
        until(lambda: served_by() == "first")
        change(entry(other.url, "second", 7))
        # The replica that serves goes by the entry that it was started from.
        with store.read() as connection:
            route = load_snapshot(connection, 1, BUILT_IN).models[MODEL].replicas[0]
        assert route.served_as is not None and route.served_as.engine_model == "first"
        models.carry_out(models.plan({}))
        assert served_by() == "first"
        answers(7)
        models.carry_out(models.plan({}))
        assert served_by() in ("first", "second")
        answers(7)
        assert Counter(item.slots for item in models.replicas()) == {7: 1}
        until(lambda: served_by() == "second")
        assert models.plan({}).steps == ()
    finally:
        other.stop()
