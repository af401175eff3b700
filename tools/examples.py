"""Writes the examples of the API's document from a simulated system: what tests ask it, and what it answers."""

from __future__ import annotations

import inspect
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / "src" / "sublet" / "api" / "examples.json"
ITEMS_MAX = 1
ENTRIES_MAX = 2
TEXT_MAX = 200
_ID = re.compile(r"\b([a-z]{2,4})_([0-9a-z]{24})\b")
_SECRET = re.compile(r"\b(sublet|whsec)_[A-Za-z0-9_+/=-]{20,}")

sys.path.insert(0, str(ROOT))


class Recorder:
    """The first good answer of each operation, with what was sent for it."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self._ids: dict[str, str] = {}

    def see(self, service: Any, method: str, path: str, body: Any, answer: Any) -> None:
        """Keep it, if it is the operation's first, or the first with a body."""
        place = path.partition("?")[0]
        route = next(
            (item for item in service.routes() if item.path_regex.match(place) and method in item.methods), None
        )
        if route is None or answer.status_code >= 300 or "json" not in answer.headers.get("content-type", "json"):
            return
        known = self.found.setdefault(f"{method} {route.path}", {})
        if isinstance(body, tuple) and "json" in body[0]:
            body = json.loads(body[1])
        if isinstance(body, dict) and body:
            known.setdefault("body", self.plain(body))
        if answer.content:
            known.setdefault("answer", self.plain(answer.json()))

    def plain(self, value: Any) -> Any:
        """Short, and the same each time: ids by the order in which they came, no secret."""
        if isinstance(value, dict):
            # Of a mapping from names that are data; an object of the API keeps all of its fields.
            kept = list(value.items())
            if len(kept) > ENTRIES_MAX and all(_ID.fullmatch(name) for name in value):
                kept = kept[:ENTRIES_MAX]
            return {self.plain(name): self.plain(item) for name, item in kept}
        if isinstance(value, list):
            return [self.plain(item) for item in value[:ITEMS_MAX]]
        if isinstance(value, str):
            value = value.replace(sys.prefix, "/opt/sublet").replace(tempfile.gettempdir(), "/var/lib")
            text = _ID.sub(lambda found: self._ids.setdefault(found[0], self._next(found[1])), value)
            return _SECRET.sub(lambda found: f"{found[1]}_{'0' * 32}", text)
        return value

    def _next(self, kind: str) -> str:
        count = 1 + sum(name.startswith(f"{kind}_") for name in self._ids.values())
        return f"{kind}_{count:024d}"


def main() -> int:
    from tests.api import test_answers
    from tests.api.conftest import Service
    from tests.api.test_editing import change, edits
    from tests.api.test_idempotency_races import MODEL, Prepared, send

    from sublet.simulation.world import World

    recorder = Recorder()
    asked = Service.ask

    def ask(self: Service, who: str, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = asked(self, who, method, path, body, **more)
        recorder.see(self, method, path, body, answer)
        return answer

    Service.ask = ask  # type: ignore[method-assign]

    def every_post(service: Service) -> None:
        for pair in Prepared(service).pairs().values():
            for wanted in pair:
                recorder.see(service, "POST", wanted[1], wanted[2], send(service, wanted, None))

    def every_look(service: Service) -> None:
        made = Prepared(service)
        pool, acme = made.pool.id, made.acme
        rows = b"time,capacity,in_use\n2025-12-01T00:00:00Z,16,1\n2025-12-01T01:00:00Z,16,2\n"
        headers = {"Authorization": f"Bearer {service.keys['operator']}", "content-type": "text/csv"}
        recorder.see(service, "PUT", f"/v1/demand/{pool}/history", None,
                     service.client.put(f"/v1/demand/{pool}/history", content=rows, headers=headers))  # fmt: skip
        for edit in edits(service).values():
            _, method, path, bodies = edit
            recorder.see(service, method, path, bodies[0], change(service, edit, bodies[0], None))
            service.ask("operator", "GET", path)
        [imported] = service.ask("operator", "GET", f"/v1/demand/{pool}/imports").json()["imports"]
        of = f"?organization_id={acme}"
        for path in (
            "/v1/whoami", "/v1/organizations", "/v1/organizations/acme/keys", "/v1/pools", f"/v1/pools/{pool}",
            f"/v1/pools/{pool}/units", f"/v1/units/{made.units[0]}", "/v1/claims", "/v1/leases",
            f"/v1/leases/{made.ended[0]}", f"/v1/leases/{made.ended[0]}/ssh-keys", f"/v1/leases/{made.ended[0]}/events?since=0",
            "/v1/quarantine", f"/v1/balances{of}", f"/v1/billing-profiles/{acme}", f"/v1/budgets{of}", f"/v1/limits{of}", "/v1/shadow",
            f"/v1/reclaims/{made.reclaims[0]}", "/v1/maintenance", "/v1/blocks", f"/v1/blocks/advice?pool={pool}",
            f"/v1/blocks/{made.block}",
            f"/v1/deployments/{MODEL}", "/v1/model-routes", "/v1/models", "/v1/model-feed",
            "/v1/subscriptions", f"/v1/subscriptions/{made.subscriptions[0]}", "/v1/event-kinds",
            "/v1/events?since=0", "/v1/backlog", f"/v1/owed{of}", f"/v1/payments{of}", "/v1/revenue", "/v1/revenue/breakdown",
            "/v1/periods/2025-12/checklist", "/v1/plan-subscriptions", "/v1/pricing-plans", "/v1/waitlist", "/v1/jobs", "/v1/images",
            "/v1/audit", f"/v1/calendar?pool={pool}",
        ):  # fmt: skip
            service.ask("operator", "GET", path)
        service.ask("team", "POST", "/v1/claims", made.claim(1))
        service.ask("operator", "GET", "/v1/claims")
        service.ask("operator", "DELETE", f"/v1/imports/{imported['id']}")

    tests = [test for name, test in vars(test_answers).items() if name.startswith("test_")]
    for test in [*tests, every_post, every_look]:
        if list(inspect.signature(test).parameters) != ["service"]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder) / "w")
            world.remember(days=8, need=0.3, spread=0.05)
            test(Service(world))
            world.close()
    PATH.write_text(json.dumps(recorder.found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(recorder.found)} operations in {PATH.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
