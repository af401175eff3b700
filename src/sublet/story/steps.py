"""The eight steps of the story. Each does its part on the running system and leaves what it saw in `stage.facts`."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from httpx2 import HTTPError

from sublet.demand import made_up
from sublet.shown import quantity_text
from sublet.story import ssh
from sublet.story.client import RefusedError
from sublet.story.stage import Stage
from sublet.values.clock import SystemClock, format_time, parse_time
from sublet.values.errors import UnavailableError

LEASE_MINUTES = 10
SAMPLES_WAITED = 3
MODEL_S_MAX = 120.0
LEASE_S_MAX = 90.0
QUOTE_S_MAX = 100.0
HTTP_CONFLICT = 409
CALM_S_MAX = 12.0
NOTICE_SEEN_S_MAX = 8.0
BUSY_SHARE = 0.5
QUESTION = "In one short sentence: what does it mean to sublet something?"
LOOK_AROUND = (
    "echo user: $(id -un) uid $(id -u); "
    "echo cores: $(nproc), pinned to core $(grep Cpus_allowed_list /proc/self/status | cut -f2); "
    "echo processes seen: $(ls -d /proc/[0-9]* | wc -l); "
    "echo network: $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\\n' ' '); "
    "echo home: $HOME; echo root writable: $(touch /x 2>/dev/null && echo yes || echo no)"
)


def own(stage: Stage) -> dict[str, Any]:
    """Discover the machine as a pool."""
    pool = stage.wait("a pool", lambda: stage.operator.get("/v1/pools")["pools"], 20)[0]
    stage.facts["pool"] = pool
    stage.say(
        f"{pool['name']}: {pool['accelerators']} accelerators of generation {pool['generation']} at {pool['site']}, "
        f"{pool['watts_per_accelerator']} W each ({pool['watts_source']})"
    )
    return {key: pool[key] for key in ("name", "generation", "accelerators", "watts_per_accelerator", "watts_source")}


def need(stage: Stage) -> dict[str, Any]:
    """Sample the machine's own load, and import a history."""
    pool = stage.facts["pool"]

    def samples() -> list[dict[str, Any]]:
        found = stage.operator.get(f"/v1/demand/{pool['id']}/samples")["samples"]
        return found if len(found) >= SAMPLES_WAITED else []

    seen = stage.wait("samples of this machine's load", samples, 30)
    now = seen[-1]["in_use"]
    stage.say(
        f"{len(seen)} samples of this machine's own load so far; now {now:g} of {pool['accelerators']} accelerators"
    )
    if now > pool["accelerators"] * BUSY_SHARE:
        stage.push_demand(pool)
    before = _on_sale(stage)
    stage.say(f"with no history, on sale: {_counts(before)}")
    path = stage.theatre.settings.data_dir / "made-up-history.csv"
    first = parse_time(seen[0]["time"])
    text = made_up.history(pool["accelerators"], first - timedelta(hours=1))
    rows = text.count("\n") - 1
    Path(path).write_text(text)
    stage.sublet("demand", "import", pool["id"], str(path))
    stage.say(f"imported {rows} hours of history from a CSV (made up, and marked so: this machine has none yet)")
    return {"samples": len(seen), "in_use_now": now, "imported_hours": rows, "on_sale_without_history": before}


def spare(stage: Stage) -> dict[str, Any]:
    """Ask what may be sold now, and why the rest is withheld."""
    pool = stage.facts["pool"]

    def something() -> dict[str, Any] | None:
        found = stage.operator.get(f"/v1/surplus/{pool['id']}")
        if found["evidence"]["history_s"] < made_up.WEEKS * 6 * 24 * 3600:
            return None
        return found if any(rung["alone"] for rung in found["rungs"] if rung["class"] == "notice") else None

    try:
        ladder = stage.wait("a moment at which this machine has something to spare", something, CALM_S_MAX)
    except UnavailableError:
        stage.push_demand(pool)
        # The rule looks at the highest demand of the last minute: what was seen before has to pass first.
        ladder = stage.wait("something to spare", something, 90)
    stage.facts["ladder"] = ladder
    on_sale = _counts_of(ladder)
    stage.say(f"on sale now: {_counts(on_sale)} (windows overlap: each count is what that class alone could sell)")
    for withheld in _reasons(ladder):
        stage.say(f"withheld from notice: {withheld['sentence']}")
    return {
        "on_sale": on_sale,
        "withheld": _reasons(ladder),
        "evidence": ladder["evidence"],
        "demand": stage.demand_source,
    }


def sell_raw(stage: Stage) -> dict[str, Any]:
    """Quote, accept, log in over SSH."""
    pool = stage.facts["pool"]
    quote, lease = stage.wait("a lease", lambda: _rent(stage, pool["id"]), QUOTE_S_MAX)
    stage.facts["quote"] = quote
    stage.say(
        f"{quote['accelerators']} accelerator, notice class, {LEASE_MINUTES} minutes: "
        f"{plain(quote['total'])} {quote['currency']} at {plain(quote['price_per_accelerator_hour'])} an hour"
    )
    lease = wait_for_lease(stage, lease["id"], ("active",))
    stage.facts["lease"] = lease
    door = lease["ssh"]
    stage.say(f"lease {lease['id']} is active: ssh -p {door['port']} {door['user']}@{door['host']}")
    seen = ssh.run(door, stage.key, LOOK_AROUND).strip().splitlines()
    for line in seen:
        stage.say(f"  the tenant sees  {line}")
    return {"lease": lease["id"], "quote": quote, "guarantees": lease["guarantees"], "seen_inside": seen}


def _rent(stage: Stage, pool_id: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A quote and its lease, or None while the owner needs everything: what is spare changes by the minute."""
    request = {"pool": pool_id, "accelerators": 1, "class": "notice", "duration_s": LEASE_MINUTES * 60}
    turn = stage.facts.setdefault("turn", 0)
    quote: dict[str, Any] | None = None
    try:
        quote = stage.customer.post("/v1/quotes", request, idempotency_key=f"story-quote-{turn}")
        accepted = {"quote_id": quote["id"], "ssh_public_keys": [stage.key.public]}
        return quote, stage.customer.post("/v1/leases", accepted, idempotency_key=f"story-lease-{turn}")
    except RefusedError as error:
        if error.details.get("status") != HTTP_CONFLICT:
            raise
        stage.facts["turn"] = turn + 1
        if quote is not None:
            # It stays open where it can't become a lease now, and would hold the accelerator that the next one asks for.
            stage.customer.post(f"/v1/quotes/{quote['id']}/cancel", idempotency_key=f"story-cancel-{turn}")
        return None


def sell_managed(stage: Stage) -> dict[str, Any]:
    """A streamed chat completion through the gateway, with the real SDK."""
    try:
        from openai import APIError, OpenAI
    except ImportError as error:
        raise UnavailableError(
            "the openai SDK is not installed; install it with `pip install 'sublet[demo]'`"
        ) from error
    model = stage.theatre.settings.models.default

    def ask() -> dict[str, Any] | None:
        client = OpenAI(
            base_url=stage.theatre.address("gateway") + "/v1", api_key=stage.customer.key, max_retries=2, timeout=30
        )
        text, usage, chunks = "", None, 0
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=60,
            stream=True,
            stream_options={"include_usage": True},
            seed=1,
        )
        for chunk in stream:
            chunks += 1
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usage = chunk.usage or usage
        return (
            {"text": text.strip(), "usage": usage.model_dump() if usage else None, "chunks": chunks} if usage else None
        )

    def attempt() -> dict[str, Any] | None:
        try:
            return ask()
        except (APIError, HTTPError, UnavailableError) as error:
            # Refused at once, ended in the stream by an error event, or cut off in it: the SDK passes the last on as it is.
            stage.facts["model_waits"] = str(error)
            return None

    answer = stage.wait("the model's answer", attempt, MODEL_S_MAX)
    stage.say(f"asked {model}: {QUESTION}")
    stage.say(f"it streamed: {answer['text']}")
    used = answer["usage"]
    stage.say(
        f"counted: {used['prompt_tokens']} tokens in, {used['completion_tokens']} out, in {answer['chunks']} events"
    )
    return {
        "model": model,
        "answer": answer["text"],
        "events": answer["chunks"],
        "tokens_input": used["prompt_tokens"],
        "tokens_output": used["completion_tokens"],
    }


def reclaim(stage: Stage) -> dict[str, Any]:
    """The owner claims all of the pool: plan, notice, end on time, credit."""
    pool, lease = stage.facts["pool"], stage.facts["lease"]
    shown: list[str] = []
    terminal = threading.Thread(target=_watch, args=(stage, lease, shown), daemon=True)
    terminal.start()
    now = SystemClock().now()
    claim = stage.facts.get("claim") or stage.team.post(
        "/v1/claims",
        {
            "pool": pool["id"],
            "accelerators": pool["accelerators"],
            "start": format_time(now),
            "end": format_time(now + timedelta(hours=1)),
            "reason": "training run",
        },
        idempotency_key="story-claim",
    )
    stage.facts["claim"] = claim
    stage.say(f"the training team claims {claim['accelerators']} of {pool['name']} for an hour: {claim['reason']}")
    noticed = wait_for_lease(stage, lease["id"], ("notice", "ending", "ended"))
    planned = _planned(stage, lease["id"])
    for step in planned:
        stage.say(f"the plan: {step['kind']} {step['subject']} at {step['at']}: {step['reason']}")
    stage.say(f"notice is given: access closes at {noticed['reclaim_at']}")
    inside: dict[str, Any] = {}
    if noticed["state"] == "notice":
        inside = _notice_inside(stage, lease)
        stage.say(
            f"the tenant reads in /run/sublet/lease.json: reclaim_at {inside.get('reclaim_at')}, {inside.get('action')}"
        )
    ended = wait_for_lease(stage, lease["id"], ("ended",))
    terminal.join(5)
    if shown and shown[0].strip():
        stage.say(f"and saw in the open terminal: {' '.join(shown[0].split())[:160]}")
    late_s = (parse_time(ended["ended_at"]) - parse_time(ended["reclaim_at"])).total_seconds()
    shut = ssh.refused(lease["ssh"], stage.key)
    stage.say(
        f"ended {late_s:.1f} s after the deadline was due, SSH {'refused' if shut else 'STILL OPEN'}; "
        f"credit of the class: {plain(ended['credit'])} {ended['currency']}"
    )
    stage.facts["lease"] = ended
    return {
        "claim": claim["id"],
        "plan": planned,
        "notice_inside": {name: inside.get(name) for name in ("reclaim_at", "action")},
        "terminal": bool(shown and shown[0].strip()),
        "reclaim_at": ended["reclaim_at"],
        "ended_at": ended["ended_at"],
        "ssh_refused": shut,
        "credit": ended["credit"],
        "accelerator_seconds": ended["accelerator_seconds"],
    }


def wait_for_lease(stage: Stage, lease_id: str, states: tuple[str, ...]) -> dict[str, Any]:
    """The lease once it is in one of `states`. Raises UnavailableError with its own last error where it fails."""

    def look() -> dict[str, Any] | None:
        found = stage.customer.get(f"/v1/leases/{lease_id}")
        if found["state"] in ("failed", "canceled", "rejected"):
            raise UnavailableError(
                f"lease {lease_id} {found['state']}: {found['end_reason']} {found['last_error'] or ''}"
            )
        return found if found["state"] in states else None

    found: dict[str, Any] = stage.wait(f"lease {lease_id} to be {' or '.join(states)}", look, LEASE_S_MAX)
    return found


def _planned(stage: Stage, lease_id: str) -> list[dict[str, Any]]:
    """The reclaim steps of the plan, next or just carried out. Plans are kept in memory: a killed planner forgets them."""
    plans = stage.operator.get("/v1/plan")
    steps = [step for plan in (plans["next"], *plans["last"]) for step in plan["steps"]]
    return [step for step in steps if step["kind"] == "reclaim" and step["subject"] == lease_id]


def _notice_inside(stage: Stage, lease: dict[str, Any]) -> dict[str, Any]:
    """What the file inside the sandbox says, once the notice is in it."""

    def read() -> dict[str, Any] | None:
        seen: dict[str, Any] = json.loads(ssh.run(lease["ssh"], stage.key, "cat /run/sublet/lease.json"))
        return seen if seen.get("reclaim_at") else None

    try:
        found: dict[str, Any] = stage.wait("the notice inside the sandbox", read, NOTICE_SEEN_S_MAX)
    except (UnavailableError, json.JSONDecodeError):
        return {}
    return found


def _watch(stage: Stage, lease: dict[str, Any], shown: list[str]) -> None:
    shown.append(ssh.watch_terminal(lease["ssh"], stage.key, "***", 30))


def _on_sale(stage: Stage) -> dict[str, int]:
    return _counts_of(stage.operator.get(f"/v1/surplus/{stage.facts['pool']['id']}"))


def _counts_of(ladder: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for rung in ladder["rungs"]:
        found[rung["class"]] = max(found.get(rung["class"], 0), rung["alone"])
    return found


def _counts(on_sale: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in on_sale.items())


def _reasons(ladder: dict[str, Any]) -> list[dict[str, Any]]:
    rungs = [rung for rung in ladder["rungs"] if rung["class"] == "notice"]
    found: list[dict[str, Any]] = rungs[-1]["withheld"] if rungs else []
    return found


def earn(stage: Stage) -> dict[str, Any]:
    """Rate, invoice, and prove the invoice from the raw events."""
    lease = stage.facts["lease"]
    organization = stage.customer.get("/v1/whoami")["organization_id"]

    def all_there() -> dict[str, Any] | None:
        draft = stage.operator.get("/v1/invoices/draft", organization_id=organization)
        seconds = sum(Decimal(line["quantity"]) for line in draft["lines"] if line["meter"] == "accelerator.seconds")
        tokens = sum(Decimal(line["quantity"]) for line in draft["lines"] if str(line["meter"]).startswith("tokens."))
        return draft if seconds == lease["accelerator_seconds"] and tokens > 0 else None

    stage.wait("all usage to be rated", all_there, 30)
    invoice = stage.facts.get("invoice") or _invoice(stage, organization)
    stage.facts["invoice"] = invoice
    currency = invoice["currency"]
    for line in invoice["lines"]:
        quantity = quantity_text(line["quantity"], line["unit"])
        stage.say(f"  {line['description']}: {quantity} = {plain(line['amount'])} {currency}")
    for credit in invoice["credits"]:
        stage.say(f"  credit, {credit['reason']}: {plain(credit['amount'])} {currency}")
    stage.say(f"invoice {invoice['number']}: total {plain(invoice['total'])} {currency}; {invoice['rounding_rule']}")
    proof = stage.sublet("ledger", "prove")
    stage.say(
        f"`sublet ledger prove`: {proof['events']} raw events rated again, difference {plain(proof['difference'])}"
    )
    if Decimal(str(proof["difference"])) != 0 or not proof["ok"]:
        raise UnavailableError(f"the books differ: {proof}")
    return {
        "invoice": invoice["number"],
        "total": invoice["total"],
        "currency": invoice["currency"],
        "lines": len(invoice["lines"]),
        "credits": [credit["amount"] for credit in invoice["credits"]],
        "difference": proof["difference"],
        "events": proof["events"],
    }


def _invoice(stage: Stage, organization: str) -> dict[str, Any]:
    """The invoice for everything so far; one that was made already, by a call whose answer was lost, is found again."""
    made = stage.operator.post("/v1/invoices", {"organization_id": organization}, idempotency_key="story-invoice")[
        "invoice"
    ]
    if made is None:
        listed = stage.operator.get("/v1/invoices", organization_id=organization)["invoices"]
        made = stage.operator.get(f"/v1/invoices/{listed[0]['id']}")
    found: dict[str, Any] = made
    return found


def worth(stage: Stage) -> dict[str, Any]:
    """One line of the desk, from these actuals."""
    line = stage.operator.get("/v1/desk/worth")
    if line.get("per_accelerator_hour") is None:
        stage.say(line["sentence"])
    else:
        # A year made of these minutes, and of the credit of a lease that was sold to be reclaimed, would say nothing.
        stage.say(
            f"{line['per_accelerator_hour']:.4f} USD per accelerator-hour sold here; the simulated days below say more"
        )
    return line


def plain(amount: str) -> str:
    """An amount without the zeros that say nothing; at least two decimals where there are any."""
    whole, _, fraction = format(Decimal(amount), "f").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction.ljust(2, '0')}" if fraction else whole


STEPS = {
    "own": own,
    "need": need,
    "spare": spare,
    "sell_raw": sell_raw,
    "sell_managed": sell_managed,
    "reclaim": reclaim,
    "earn": earn,
    "worth": worth,
}
"""The story in order."""
