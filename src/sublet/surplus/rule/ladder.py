"""The rule: capacity less the (1 - risk) quantile of the peak of demand until the promise can be taken back.

Everything here is pure, so that the running service, the shadow and the backtest decide with the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from sublet.demand.forecast.forecaster import Futures
from sublet.demand.model import Claim, Floats
from sublet.surplus.model import HOUR_S, Absence, BackOff, Sellable, Sold, Withheld
from sublet.surplus.rule.earned import Step, earned_steps, hours_text, long_steps
from sublet.surplus.rule.holding import Booked, Spans, per_slot
from sublet.surplus.rule.seller import Depth, Voice, agreed_depth, deepest, long_limit
from sublet.surplus.rule.view import Outlook, View, claims_met, unmet
from sublet.surplus.terms import SHADOW_HOURS_MIN
from sublet.values.clock import format_time, to_micros
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

COLD_S = 24 * HOUR_S
COLD_FIRM_S = SHADOW_HOURS_MIN * HOUR_S
COLD_HORIZONS = 7
PATHS_MIN = 20
ROUNDING = 1e-6
KEPT_MAX = 256
"""Decisions that one view keeps."""

Counts = Floats | float
"""By slot, or one number for all slots."""


def sellable(
    view: View,
    policy: ServiceClass,
    window: Window,
    sold: Sequence[Sold],
    policies: Mapping[str, ServiceClass],
    short: int | None = None,
    longer: int | None = None,
) -> Sellable:
    """How many accelerators of a class may be sold over `window`, and by which reason each other one is withheld.

    Never more than of a less strict class of `policies`: whatever speaks against that one, such as a demand that has just been
    higher, speaks against a stricter promise all the more. `short` is what could be sold for the
    class's shortest window if nothing were sold, `longer` what could be for the next longer one; found where they are needed.
    """
    found = _by_horizon(view, policy, window, sold, policies, short, longer)
    for other in policies.values():
        if found.count and other.sell and other.by_window and other.strictness < policy.strictness:
            most = _by_horizon(view, other, window, sold, policies).count
            if most < found.count:
                spare = found.count - most
                why = f"{spare} because even {other.name}, which is less strict, is on sale no further"
                withheld = (*found.withheld, Withheld(spare, "looser_class", why))
                found = Sellable(found.pool_id, found.class_name, found.window_s, most, withheld)
    return found


def staying(view: View, window: Window, needed: float, working: float, *, patient: bool = False) -> int:
    """Accelerators that may be held by others than the owner over `window`, where it needs `needed` of `working` ones.

    What is away, claimed or taken back at the worst moment of the window is the owner's. No forecast: what is sold already
    is not taken back because demand might rise. With `patient`, what already shows in demand of a claim that still waits counts
    from the end of its patience on, as the claim does.
    """
    facts = view.facts
    met = claims_met((*view.claims, *facts.reclaims), view.at, needed, view.before)
    for claim in view.claims if patient else ():
        if claim.window.start <= view.at < claim.needed.start:
            needed -= met.pop(claim.id, 0.0)
    items = [(absence.window, float(absence.count)) for absence in facts.absences]
    items += [
        (claim.needed, claim.count - met.get(claim.id, 0.0))
        for claim in (*view.claims, *facts.reclaims)
        if claim.withdrawn_at is None
    ]
    works = min(facts.capacity - facts.quarantined, working) - facts.never_sell
    left = works - needed - most_at_once(items, window)
    return max(0, math.floor(left + ROUNDING)) if math.isfinite(left) else 0


def most_at_once(items: Sequence[tuple[Window, float]], window: Window) -> float:
    """The highest sum of the items that hold at one moment of `window`."""
    over = [(item, count) for item, count in items if item.overlaps(window) and count > 0]
    moments = {window.start, *(item.start for item, _ in over if window.contains(item.start))}
    return max((sum(count for item, count in over if item.contains(moment)) for moment in moments), default=0.0)


def _by_horizon(
    view: View,
    policy: ServiceClass,
    window: Window,
    sold: Sequence[Sold],
    policies: Mapping[str, ServiceClass],
    short: int | None = None,
    longer: int | None = None,
) -> Sellable:
    """`_by_itself`, found once for all windows of one horizon beside the same promises where the class can be taken back.

    Stricter classes ask for it with each of their windows, and it is the same for all that last longer than the notice.
    """
    if not policy.reclaimable:
        return _by_itself(view, policy, window, sold, policies, short, longer)
    start = max(window.start, view.at)
    horizon_s = policy.horizon_s((window.end - start).total_seconds())
    # What is kept holds on to both, so that no other object comes to have their ids.
    key = ("by_horizon", id(policy), id(policies), start, horizon_s)
    known = view.kept.get(key)
    # Compared, not part of the key: to hash a thousand sold windows costs more than the decision.
    if known is None or known[2] != sold:
        if len(view.kept) >= KEPT_MAX:
            view.kept.clear()
        decided = _by_itself(view, policy, window, sold, policies, short, longer)
        known = view.kept[key] = (policy, policies, sold, decided)
    found: Sellable = known[3]
    return found if found.window_s == int(window.seconds) else replace(found, window_s=int(window.seconds))


def _by_itself(
    view: View,
    policy: ServiceClass,
    window: Window,
    sold: Sequence[Sold],
    policies: Mapping[str, ServiceClass],
    short: int | None = None,
    longer: int | None = None,
) -> Sellable:
    facts, plain = view.facts, not (sold or view.claims or view.facts.reclaims or view.facts.absences)
    begun = _plainly_left(view) if plain else _Left(facts.capacity)
    steps = long_steps(view, policy, window) if begun.most >= 1 - ROUNDING else []
    if plain and (begun.most < 1 - ROUNDING or not _some_left(steps)):
        left = _waterfall(begun, steps)
        return Sellable(facts.pool_id, policy.name, int(window.seconds), left.count, left.withheld)
    start = max(window.start, view.at)
    start_s = (start - view.at).total_seconds()
    until_s = start_s + policy.horizon_s((window.end - start).total_seconds())
    outlook = view.outlook(until_s, firm=not policy.reclaimable)
    first = min(outlook.slots - 1, int((start_s + outlook.passed_s) // outlook.slot_s))
    held: Counts = 0.0
    away, claimed, reclaimed = held, held, held
    if not plain:
        end = view.at + timedelta(seconds=max(until_s, start_s + outlook.slot_s))
        over = partial(_over, view, outlook, first)
        if sold:
            held = _held(view, sold, policies, outlook)[first:]
        away = over([(absence.window, absence.count) for absence in facts.absences])
        claims, reclaims = unmet(view, view.claims, end), unmet(view, facts.reclaims, end)
        claimed = over([(claim.needed, rest) for claim, rest in claims])
        reclaimed = over([(claim.needed, rest) for claim, rest in reclaims])
        words = (_absences(facts.absences, start, end), _claims(claims), _claims(reclaims))
        begun = _waterfall(begun, _first_steps(view, away, held, claimed, reclaimed, words))
    some = begun.most >= 1 - ROUNDING and _some_left(steps)
    free = view.works - away
    if some:
        steps += _known_steps(view, policy, outlook, first, free - held - reclaimed)
        some = _some_left(steps)
    if some:
        steps.append(_demand_step(view, policy, until_s, outlook, first, free - held - claimed - reclaimed))
        least = _as_longer(view, policy, window, sold, policies, short) if longer is None else longer
        steps[-1] = (max(least, steps[-1][0]), *steps[-1][1:])
        some = _some_left(steps)
    if some:
        most_held = held if isinstance(held, float) else float(held.max(initial=0.0))
        steps += _kept_short(view, policy, window, sold, policies, short)
        steps += earned_steps(view, policy, window, sold)
        steps += _doubts(view, policy, until_s, outlook, max(0.0, view.works - view.in_use), most_held)
    left = _waterfall(begun, steps)
    return Sellable(facts.pool_id, policy.name, int(window.seconds), left.count, left.withheld)


def _over(view: View, outlook: Outlook, first: int, items: Sequence[tuple[Window, float]]) -> Counts:
    """What the items hold in each slot of the outlook from slot `first` on."""
    if not items:
        return 0.0
    grid_start = view.at - timedelta(seconds=outlook.passed_s)
    return per_slot(items, grid_start, view.at, outlook.slot_s, outlook.told_slots)[first:]


def _first_steps(
    view: View, away: Counts, held: Counts, claimed: Counts, reclaimed: Counts, words: tuple[str, str, str]
) -> list[Step]:
    """What is withheld whatever demand may do: by setting, by what does not work, by the owner's use, leases and claims.

    `words` name the absences, claims and reclaims.
    """
    facts = view.facts
    # No step may hold the view: it keeps what they left, and what refers to itself waits for the garbage collector.
    working, in_use = view.working, view.in_use
    keep = facts.never_sell + facts.failure_reserve
    room = view.works - away - in_use
    left = room - held - claimed - reclaimed
    absences, claims, reclaims = words
    return [
        (
            0.0 if not facts.relet else float(facts.capacity),
            "not_relet",
            lambda count: f"{count} leased in on terms that do not allow them to be sold to others",
        ),
        (
            facts.capacity - facts.never_sell,
            "never_sell",
            lambda count: f"{count} reserved by the operator or for model replicas",
        ),
        (facts.capacity - keep, "failure_reserve", lambda count: f"{count} kept for accelerators that fail"),
        (
            min(facts.capacity - keep, working - facts.never_sell),
            "not_working",
            lambda count: f"{count} don't work now: the latest sample counts {working:g}",
        ),
        (view.works, "quarantined", lambda count: f"{count} in quarantine until proved clean"),
        (
            _least(view.works - away),
            "maintenance",
            lambda count: f"{count} away within the window: {absences}",
        ),
        (
            min(view.works - in_use, _least(room)),
            "in_use",
            lambda count: f"the owner uses {in_use:g} now, which takes {count}",
        ),
        (_least(room - held), "already_sold", lambda count: f"{count} sold already for part of the window"),
        (_least(room - held - claimed), "claim", lambda count: f"{count} claimed: {claims}"),
        (_least(left), "reclaimed", lambda count: f"{count} taken back by the owner: {reclaims}"),
        (
            _least(left) - max(0.0, view.settled - in_use),
            "back_off",
            partial(_backed_off, view.settled, facts.back_off),
        ),
    ]


def _backed_off(settled: float, back_off: BackOff | None, count: int) -> str:
    hold_s = back_off.hold_s if back_off else 0
    return (
        f"{count} taken back lately, when the owner's demand rose to {settled:g}: "
        f"on sale again once it has stayed lower for {hours_text(hold_s)}"
    )


def _plainly_left(view: View) -> _Left:
    """What the first steps of any decision leave where nothing is sold, claimed or away."""
    found: _Left | None = view.kept.get("plainly_left")
    if found is None:
        steps = _first_steps(view, 0.0, 0.0, 0.0, 0.0, ("", "", ""))
        found = view.kept["plainly_left"] = _waterfall(_Left(view.facts.capacity), steps)
    return found


def _as_longer(
    view: View,
    policy: ServiceClass,
    window: Window,
    sold: Sequence[Sold],
    policies: Mapping[str, ServiceClass],
    short: int | None,
) -> int:
    """What could be sold for the next longer window: a shorter promise breaks no sooner.

    On a ladder each length has a caution and a share of past paths of its own.
    """
    longer_s = min((length for length in policy.windows_s if length > window.seconds), default=None)
    if longer_s is None or not policy.laddered:
        return 0
    start = max(window.start, view.at)
    if short is None and window.seconds <= policy.shortest_s and _keeps_short(policy):
        shortest = Window.starting(start, policy.shortest_s)
        short = _by_itself(view, policy, shortest, (), policies, None, 0).count
    return _by_itself(view, policy, Window.starting(start, longer_s), sold, policies, short).count


def short_count(view: View, policy: ServiceClass, policies: Mapping[str, ServiceClass]) -> int | None:
    """What could be sold for the class's shortest window from now if nothing were sold; None where nothing hangs on it."""
    if not _keeps_short(policy):
        return None
    return _by_itself(view, policy, Window.starting(view.at, policy.shortest_s), (), policies, None, 0).count


def offers(
    view: View,
    policy: ServiceClass,
    sold: Sequence[Sold],
    policies: Mapping[str, ServiceClass],
    short: int | None = None,
) -> list[Sellable]:
    """What each window of the class could sell from now, if it were the only one. Equal horizons are decided once.

    `short` is as `short_count` tells it, found here where it is needed.
    """
    known: dict[float, Sellable] = {}
    found: dict[int, Sellable] = {}
    longer = 0
    # The shortest first, which tells how many may be longer; then from the longest down.
    for window_s in (policy.shortest_s, *policy.windows_s[:-1]):
        horizon_s = policy.horizon_s(window_s)
        same = known.get(horizon_s)
        if same is None:
            same = sellable(view, policy, Window.starting(view.at, window_s), sold, policies, short, longer)
            known[horizon_s] = same
        else:
            same = Sellable(same.pool_id, same.class_name, window_s, same.count, same.withheld)
        found[window_s] = same
        if window_s > policy.shortest_s:
            longer = same.count if policy.laddered else 0
        elif not sold:
            short = same.count
    if longer > found[policy.shortest_s].count:
        window = Window.starting(view.at, policy.shortest_s)
        found[policy.shortest_s] = sellable(view, policy, window, sold, policies, short, longer)
    return [found[window_s] for window_s in policy.windows_s]


def _demand_step(view: View, policy: ServiceClass, until_s: float, outlook: Outlook, first: int, free: Counts) -> Step:
    """How deep the quantile of rising demand lets the class go. `free` is what would be left if the owner used nothing."""
    limit = math.inf
    if outlook.seller is not None and not policy.reclaimable:
        level = outlook.seller.level(view.hours.in_use, view.hours.t)
        limit = _least(free) - level
        if limit < 1 - ROUNDING and math.isfinite(level):
            return 0.0, "demand_quantile", partial(_high_level, level, until_s)
    leading = outlook.voices[0]
    tail = outlook.tail(policy, leading)
    # A class that promises nothing gets what is idle now, whatever demand may do.
    above = outlook.above if math.isfinite(tail) else 0.0
    room = free - view.in_use - above

    def depth_of(voice: Voice) -> Depth:
        ahead = voice.futures
        if first:
            ahead = Futures(ahead.paths[:, first:], ahead.weights, ahead.method)
        return deepest(ahead, room, tail if voice is leading else outlook.tail(policy, voice), limit)

    def why(count: int) -> str:
        promise = f"at {policy.broken_per_1000_max:g} broken in 1,000"
        if tail < 0:
            return (
                f"{count} because {hours_text(view.history_s)} of history, weighted by age, is too little evidence "
                f"to promise {hours_text(until_s)} {promise}"
            )
        return (
            f"{count} because {promise} the owner's demand may rise so far "
            f"within {hours_text(until_s)}, by {leading.futures.paths.shape[0]} past moments"
        )

    return agreed_depth(outlook.voices, depth_of), "demand_quantile", why


def _known_steps(view: View, policy: ServiceClass, outlook: Outlook, first: int, free: Counts) -> list[Step]:
    """What running and waiting jobs leave of a class that can't be taken back; others are taken back when a job begins.

    `free` is what would be left if the owner used nothing. A claim may be for such a job: it is not counted here as well.
    """
    need = view.known[first : outlook.slots]
    if policy.reclaimable or need.size == 0:
        return []
    most = float((free - need).min() if isinstance(free, float) else (free[: need.size] - need).min())

    def why(count: int) -> str:
        return f"{count} because jobs that run or wait now may need {need.max():g} within the window"

    return [(most, "known_jobs", why)]


def _kept_short(
    view: View,
    policy: ServiceClass,
    window: Window,
    sold: Sequence[Sold],
    policies: Mapping[str, ServiceClass],
    short: int | None,
) -> list[Step]:
    """How many may be sold for longer than the shortest window beside those that run or are booked for it."""
    if not _keeps_short(policy) or window.seconds <= policy.shortest_s:
        return []
    if short is None:
        shortest = Window.starting(max(window.start, view.at), policy.shortest_s)
        short = _by_itself(view, policy, shortest, (), policies, None, 0).count
    longer = sum(
        item.count
        for item in sold
        if item.class_name == policy.name and item.window.seconds > policy.shortest_s and item.window.overlaps(window)
    )

    def why(count: int) -> str:
        return (
            f"{count} kept for windows of {hours_text(policy.shortest_s)}: at most {policy.long_share_max:.0%} of the {short} "
            f"that could be sold so short are sold for longer (classes.{policy.name}.long_share_max)"
        )

    return [(long_limit(policy.long_share_max, short) - longer, "kept_short", why)]


def _keeps_short(policy: ServiceClass) -> bool:
    return policy.laddered and policy.long_share_max < 1


def _high_level(level: float, until_s: float, count: int) -> str:
    return f"{count} because within {hours_text(until_s)} the owner's demand may be back at its high level of {level:g}"


def _least(counts: Counts) -> float:
    return counts if isinstance(counts, float) else float(counts.min())


def _doubts(view: View, policy: ServiceClass, until_s: float, outlook: Outlook, idle: float, held: float) -> list[Step]:
    steps: list[Step] = []
    firm = not policy.reclaimable
    wanted_s = max(COLD_FIRM_S if firm else COLD_S, COLD_HORIZONS * until_s)
    moments = outlook.futures.paths.shape[0]
    if view.history_s < wanted_s or moments < PATHS_MIN:
        least = 0.0 if firm else (idle + 1) // 2 - held
        share = "a class that can't be taken back is not sold" if firm else "at most half of what is idle is sold"
        why = (
            f"{hours_text(view.history_s)} of history is less than {hours_text(wanted_s)}"
            if view.history_s < wanted_s
            else f"so far ahead only {moments} past moments are known"
        )
        steps.append((least, "cold_start", lambda count: f"{count} because {why}: {share}"))
    if view.stale:
        age = (
            "there is no sample"
            if view.sample_age_s is None
            else f"the last sample is {hours_text(view.sample_age_s)} old"
        )
        steps.append((0.0, "stale_demand", lambda count: f"{count} because {age}"))
    if not policy.sell:
        steps.append((0.0, "not_on_sale", lambda count: f"{count} because the settings don't sell {policy.name}"))
    return steps


def _some_left(steps: Sequence[Step]) -> bool:
    """Whether these steps leave anything on sale: each takes from what the one before it left."""
    return not steps or steps[-1][0] >= 1 - ROUNDING


@dataclass(frozen=True, slots=True)
class _Left:
    """What some steps left of a pool, what each of them withheld, and the most that the last of them allows."""

    count: int
    most: float = math.inf
    withheld: tuple[Withheld, ...] = ()


def _waterfall(before: _Left, steps: Sequence[Step]) -> _Left:
    """Each step may lower the count; what it lowers is withheld by its reason. What is left and withheld always sums to the
    same."""
    left, most = before.count, before.most
    withheld = []
    for most, code, sentence in steps:
        if most + ROUNDING < left:
            count = left - max(0, math.floor(most + ROUNDING))
            if count:
                withheld.append(Withheld(count, code, sentence(count)))
            left -= count
    return _Left(left, most, (*before.withheld, *withheld))


def _held(view: View, sold: Sequence[Sold], policies: Mapping[str, ServiceClass], outlook: Outlook) -> Floats:
    """What sold windows hold in each slot of the outlook."""
    grid_us = to_micros(view.at - timedelta(seconds=outlook.passed_s))
    if isinstance(sold, Booked):
        until_us = grid_us + outlook.told_slots * outlook.slot_s * 1_000_000
        spans = Spans.of_booked(sold, policies, to_micros(view.at), until_us)
    else:
        spans = _spans(view, sold, policies)
    return spans.held(grid_us, outlook.slot_s, outlook.told_slots)


def _spans(view: View, sold: Sequence[Sold], policies: Mapping[str, ServiceClass]) -> Spans:
    """The spans of `hold` that are not over, found once for all windows beside the same promises."""
    known = view.kept.get("spans")
    if known is None or known[0] is not policies or known[1] != sold:
        found = Spans.of(sold, policies, to_micros(view.at))
        known = view.kept["spans"] = (policies, sold, found)
    spans_found: Spans = known[2]
    return spans_found


def _absences(absences: Sequence[Absence], start: datetime, end: datetime) -> str:
    return "; ".join(
        f"{absence.count} by {absence.reason} from {format_time(absence.window.start)}"
        for absence in absences
        if absence.window.start < end and absence.window.end > start
    )


def _claims(needs: Sequence[tuple[Claim, float]]) -> str:
    return "; ".join(
        f"{claim.count} from {format_time(claim.window.start)} ({claim.reason or 'no reason was given'})"
        for claim, _ in needs[:5]
    )
