"""A made-up overview and record, the same for the same moment: for tests, screenshots and the simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sublet.console.model import (
    Alert,
    BlockView,
    BudgetsQuery,
    BudgetsView,
    BudgetView,
    LeaseView,
    ModelView,
    MoneyView,
    Overview,
    PlanLine,
    PoolPoint,
    PoolView,
    ProcessView,
    RecordView,
    Sold,
    Told,
    Withheld,
)
from sublet.surplus.budget import Standing
from sublet.surplus.kept import pace_of
from sublet.surplus.model import Stood
from sublet.surplus.record.calibration import Day, Figures, PoolRecord, Shadowed, Tuning, figures
from sublet.values.money import Money
from sublet.values.service_classes import SHIPPED

_STEP = timedelta(minutes=10)
_BACK = 144
_AHEAD = 36


def sample_overview(as_of: datetime) -> Overview:
    """A fleet of three pools on a lively day."""
    found = sample_budgets(as_of)
    return Overview(
        as_of=as_of,
        pools=(_h100(as_of), _a100(as_of), _fresh_pool()),
        leases=_leases(as_of),
        blocks=(
            BlockView(
                "blk_2m8kq7v0c4t9xw3ehz5a1d6r",
                "h100-berlin",
                64,
                48,
                0.62,
                "active",
                as_of - timedelta(days=40),
                as_of + timedelta(days=325),
                "Term deal 2026",
            ),
        ),
        models=(
            ModelView("SmolLM2-135M-Instruct", 2, "ready", 184.3, 212, 41, replicas_wanted=2),
            ModelView(
                "Qwen3-32B",
                3,
                "draining",
                2_480.0,
                1_904,
                126,
                replicas_wanted=4,
                pools=(("h100-berlin", 2), ("h200-oslo", 1)),
                lost=(("rack-7", 1),),
            ),
            ModelView("Llama-4-Scout", 0, "starting", 0, 0, None, replicas_wanted=1),
        ),
        money=(_money(),),
        plan=_plan(as_of),
        alerts=(
            Alert(
                "warning",
                "The owner claimed 8 accelerators of h100-berlin; 3 leases were given notice.",
                as_of - timedelta(seconds=149),
            ),
        ),
        processes=(
            ProcessView("control plane", "ok"),
            ProcessView("gateway", "ok"),
            ProcessView("engine smollm2", "ok"),
            ProcessView("ssh door", "degraded", "Port 22014 is taken by another program; new leases get the next one."),
        ),
        budgets=replace(found, rows=found.rows[:3]),
    )


def empty_overview(as_of: datetime) -> Overview:
    """The first second of a new system: a pool, and nothing known about it."""
    return Overview(as_of=as_of, pools=(_fresh_pool(),), processes=(ProcessView("control plane", "starting"),))


def _h100(as_of: datetime) -> PoolView:
    silent = range(-60, -52)
    points = tuple(_point(as_of, index, 64, 30, 9) for index in range(-_BACK, _AHEAD) if index not in silent)
    return _pool("h100", "h100-berlin", "H100 SXM", "berlin-1", points)


def _a100(as_of: datetime) -> PoolView:
    points = tuple(_point(as_of, index, 128 if index >= -70 else 96, 71, 14) for index in range(-_BACK, _AHEAD))
    return _pool("a100", "a100-oslo", "A100 80 GB", "oslo-2", points)


def _pool(key: str, name: str, generation: str, site: str, points: tuple[PoolPoint, ...]) -> PoolView:
    now = next(point for point in reversed(points) if not point.forecast)
    on_sale, withheld = int(now.on_sale or 0), int(now.withheld or 0)
    return PoolView(
        id=f"pool_{key}",
        name=name,
        generation=generation,
        site=site,
        capacity=now.capacity,
        own_demand_now=now.own_demand,
        points=points,
        on_sale=(("firm", on_sale // 4), ("notice", on_sale * 2 // 3), ("spot", on_sale)),
        withheld=(
            Withheld(withheld - 1, "the owner may need within 2 min, as its demand rose in 1 % of the last 28 days"),
            Withheld(1, "fenced until 18:20 while a lease is cleaned up"),
        ),
        forecast_quantile=0.99,
        gap_s=900,
    )


def _fresh_pool() -> PoolView:
    return PoolView(
        id="pool_cpu",
        name="workstation",
        generation="cpu",
        site="local",
        capacity=2,
        own_demand_now=None,
        withheld=(Withheld(2, "nothing is known about the owner's demand yet"),),
    )


def _demand(index: int, level: float, swing: float) -> float:
    daily = math.sin(2 * math.pi * (index + 20) / 144)
    bursts = 4 if index % 23 in (3, 4, 5) else 0
    return round(level + swing * daily + 2 * math.sin(index / 5) + bursts)


def _point(as_of: datetime, index: int, capacity: int, level: float, swing: float) -> PoolPoint:
    ahead = max(0, index)
    own = _demand(index, level, swing) + round(1.6 * math.sqrt(ahead))
    busy = _BACK + index
    fading = max(0.0, 1 - ahead / _AHEAD)
    room = max(0.0, capacity - level - swing - 4)
    sold = Sold(
        {
            "firm": round(0.28 * room),
            "notice": round(0.22 * room * fading) if busy > 20 else 0,
            "spot": round(0.12 * room * fading) if busy > 50 and index < 12 else 0,
        },
        model=round(0.14 * room) if index < 18 else 0,
    )
    on_sale = max(0, capacity - own - sold.total - round(0.07 * capacity))
    return PoolPoint(as_of + index * _STEP, capacity, own, sold, on_sale, forecast=index >= 0)


def _leases(as_of: datetime) -> tuple[LeaseView, ...]:
    def lease(
        key: str,
        organization: str,
        pool: str,
        kind: str,
        many: int,
        state: str,
        ago_s: int,
        left_s: int,
        back_s: int = 0,
    ) -> LeaseView:
        reclaim_at = as_of + timedelta(seconds=back_s) if back_s else None
        return LeaseView(
            id=f"lse_{key}",
            organization=organization,
            pool=pool,
            class_of_service=kind,
            accelerators=many,
            state=state,
            starts_at=as_of - timedelta(seconds=ago_s),
            ends_at=as_of + timedelta(seconds=left_s),
            reclaim_at=reclaim_at,
            seconds_left=min(left_s, back_s or left_s),
        )

    return (
        lease(
            "4k2m9x7q1c3v5b8n0p6r2t4w",
            "Institute for Weather and Climate",
            "a100-oslo",
            "firm",
            8,
            "active",
            86_400,
            259_512,
        ),
        lease(
            "7h1d3f5g9j2k4l6m8n0p1q3r", "Nordlicht Robotics", "h100-berlin", "notice", 4, "notice", 5_400, 9_000, 151
        ),
        lease("2b4c6d8e0f1g3h5j7k9m0n2p", "Small Lab", "h100-berlin", "spot", 1, "active", 1_200, 2_400),
        lease("9t7r5p3n1m0k8j6h4g2f0e8d", "Kestrel Bio", "a100-oslo", "notice", 16, "active", 40_000, 46_800),
        lease("0a2c4e6g8j1k3m5n7p9q1r3s", "Atelier Dumont", "h100-berlin", "firm", 2, "preparing", 0, 604_800),
    )


def _money() -> MoneyView:
    return MoneyView(
        today=Money.of("1284.318"),
        this_month=Money.of("28671.4425"),
        credits=Money.of("312.07"),
        open=Money.of("9904.11"),
        by_product=(("Raw leases", Money.of("22140.90")), ("Managed models", Money.of("6530.5425"))),
        by_class=(
            ("firm", Money.of("11022.40")),
            ("notice", Money.of("8310.20")),
            ("spot", Money.of("2808.30")),
            ("model", Money.of("6530.5425")),
        ),
    )


def sample_budgets(as_of: datetime, query: BudgetsQuery = BudgetsQuery()) -> BudgetsView:
    """Budgets of every sort: used up, passed, nearly so, held, hardly begun, and of another currency."""
    month = as_of + timedelta(days=9, hours=4)

    def budget(key: str, organization: str, limit: str, spent: str, held: str = "0", **fields: Any) -> BudgetView:
        currency = fields.pop("currency", "USD")
        given: dict[str, Any] = {
            "scope": "organization",
            "subject": "",
            "period": "month",
            "resets_at": month,
            "thresholds": (50, 80, 100),
            **{
                name: Money.of(amount, currency)
                for name, amount in (("limit", limit), ("spent", spent), ("held", held))
            },
            **fields,
        }
        return BudgetView(f"bud_{key}", organization, **given)

    def told(*percents: int, trouble: str = "") -> tuple[Told, ...]:
        return tuple(
            Told(percent, as_of - timedelta(hours=1), trouble if percent == 80 else "") for percent in percents
        )

    rows = (
        budget("1f3h", "Small Lab", "20", "33.6", scope="key", subject="notebooks …_Crw", told=told(50, 80, 100), channels=1),
        budget(
            "2g4j", "Nordlicht Robotics", "100", "112.48", period="day", scope="project", subject="search",
            hard=False, resets_at=as_of + timedelta(hours=5), told=told(50, 80, 100),
        ),
        budget(
            "3h5k", "Institute for Weather and Climate", "2500", "2238.6", "140.25", channels=2,
            told=told(50, 80, trouble="webhook will be tried again: ConnectionError: the receiver answered 503"),
        ),
        budget("4j6m", "Kestrel Bio", "4000000000", "2189000", "46.4", period="ever", resets_at=None, told=told()),
        budget("5k7n", "Atelier Dumont", "100", "0", "0.21", period="ever", resets_at=None, prepaid=True, channels=1),
        budget("6m8p", "Yen Works KK", "250000", "0", currency="JPY", thresholds=()),
    )  # fmt: skip
    kept = tuple(row for row in rows if query.find.lower() in f"{row.organization} {row.subject}".lower())
    return BudgetsView(as_of, kept, len(kept), 1, 1, 1, query)


def _plan(as_of: datetime) -> tuple[PlanLine, ...]:
    def line(after_s: int | None, kind: str, subject: str, reason: str) -> PlanLine:
        return PlanLine(None if after_s is None else as_of + timedelta(seconds=after_s), kind, subject, reason)

    return (
        line(
            None,
            "drain_replica",
            "rep_5n7p9q1r",
            "The owner needs 8 accelerators of h100-berlin; a replica is the cheapest to give back.",
        ),
        line(151, "end_lease", "lse_7h1d3f5g", "Notice of 5 min runs out; the accelerators go back to the owner."),
        line(151, "credit", "lse_7h1d3f5g", "10 % of the undelivered rest, as the notice class promises."),
        line(2400, "end_lease", "lse_2b4c6d8e", "The lease's window ends."),
    )


def sample_standings(hour: int) -> tuple[Stood, ...]:
    """Kinds of promise that have earned all, a part, and nothing, and one that the monitor stopped."""
    firm = SHIPPED["firm"]
    paces = {hours: pace_of(firm, hours) for hours in (1, 4)}
    stopped = Standing(rate=5.0, running=20.0)
    stopped.stop(hour - 3, 17)
    return (
        Stood("firm", 1, 0, hour, paces[1], Standing(rate=0.4, running=900.0)),
        Stood("firm", 4, 0, hour, paces[4], stopped),
        Stood("deadline", 4, 24, hour, paces[4], Standing(rate=0.0, running=20.0)),
    )


def sample_record(as_of: datetime) -> RecordView:
    """A pool whose leases are few yet, beside what its shadow has seen in three months."""
    today = int(as_of.timestamp()) // 86_400
    month = as_of - timedelta(days=30)
    record = PoolRecord(
        pool_id="pool_1",
        pool="h100-berlin",
        at=as_of,
        days=90,
        leases=tuple(
            _promised(today, name, hours, windows, broken, 24, released=released)
            for name, hours, windows, broken, released in (
                ("firm", 4, 41, 0, 3),
                ("firm", 24, 12, 0, 0),
                ("notice", 4, 96, 7, 11),
                ("spot", 4, 210, 33, 40),
            )
        ),
        leases_since=as_of - timedelta(days=90),
        shadow=tuple(
            _promised(today, name, hours, windows, broken, hours, bound=bound)
            for name, hours, windows, broken, bound in (
                ("firm", 24, 0, 0, 0.0),
                ("firm", 12, 5_160, 12, 0.303),
                ("firm", 4, 61_700, 1_940, 0.617),
                ("firm", 1, 402_300, 2_700, 0.813),
                ("notice", 24, 18_300, 5_240, 0.945),
                ("notice", 4, 118_900, 5_470, 0.922),
                ("spot", 24, 21_700, 7_950, 0.98),
                ("spot", 4, 131_200, 14_600, 0.974),
            )
        ),
        lived=Shadowed(as_of - timedelta(days=112), as_of, 2_688, 14, 0),
        tunings=(
            Tuning(24 * 3600, 1.62, 0.79, month, month + timedelta(days=4)),
            Tuning(12 * 3600, 1.31, 0.87, month, None, _promised(today, "firm", 12, 4_000, 72, 12)),
            Tuning(4 * 3600, 1.02, 0.99, None, None),
            Tuning(3600, 0.71, 1.19, month - timedelta(days=40), None),
        ),
        promises=sample_standings(int(as_of.timestamp()) // 3600),
    )
    return RecordView(as_of, ("h100-berlin", "a100-virginia", "not-seen-yet"), record)


def _promised(
    today: int, name: str, hours: int, windows: int, broken: int, parts: int, *, released: int = 0, bound: float = 0.0
) -> Figures:
    """Windows of one class and length, spread over 90 days, that broke on a few of them."""
    policy = replace(SHIPPED[name], broken_per_1000_max=max(10.0, SHIPPED[name].broken_per_1000_max))
    days = []
    for index in range(90):
        over = windows * (index + 1) // 90 - windows * index // 90
        gone = min(over, broken * (index // 9 + 1) // 10 - broken * (index // 9) // 10) if index % 9 == 8 else 0
        left = min(over - gone, released * (index + 1) // 90 - released * index // 90)
        after = {part: gone // parts + (part < gone % parts) for part in range(parts)}
        days.append(
            Day(
                today - 89 + index,
                over,
                over - gone - left,
                gone,
                policy.broken_per_1000_max * over,
                round((over - gone) * hours / bound) if bound else 0,
                released=left,
                broken_after=after,
                released_after={parts // 2: left} if left else {},
            )
        )
    return figures(policy, hours * 3600, days, parts, running=windows // 400)
