"""Takes requests' parts of the limits that cover them, from memory where that has enough, else from the database.

What is exact: of a minute, all gateways together start no more requests, and reserve no more tokens, than the limit has, and no more
requests run at once, whichever of them is killed. Tokens are reserved by an estimate; once the engine has counted, what was too
much returns, and what was too little is counted before anything else is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sublet.gateway.limits.orders import INPUT, OUTPUT, REQUESTS, Order, Outcome, Placed, Want, WantSlots
from sublet.gateway.limits.shares import IDLE_S, Slots, Window
from sublet.gateway.metering.estimate import prompt_tokens
from sublet.gateway.model import KeyGrant, ModelRoute, SharedLimit, Snapshot
from sublet.gateway.refusals import LimitUnreachableError
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import COUNT, EMBEDDING
from sublet.values.errors import SubletError

LEASE_S = 30.0
"""A run of which no beat was seen for so long is lost."""
SAFE_S = 5.0
"""So much earlier a run that can't beat stops using its slots."""
BEAT_S = 5.0
WAIT_S_MAX = 10.0
FORGET_S = 10.0
ANSWER_TOKENS = 256.0
"""What an answer is expected to have before any was seen."""
US_PER_MINUTE = 60_000_000

Cleared = Callable[[SubletError | None], None]
"""Told once that a request may start, or why not."""


class LimitHost(Protocol):
    """The gateway, as far as limits need it."""

    @property
    def run(self) -> str: ...

    def now_us(self) -> int: ...

    @property
    def monotonic(self) -> Callable[[], float]: ...

    def order(self, order: Order, placed: Placed) -> None:
        """Have an order carried out off the loop; `placed` is told in a later turn."""
        ...


class Claim:
    """What one request takes of the limits that cover it; given back or settled once."""

    __slots__ = ("_cleared", "_over", "granted", "minute", "parts", "since")

    def __init__(self, parts: tuple[tuple[Window | Slots, int], ...], cleared: Cleared, now: float) -> None:
        self.parts = parts
        self._cleared = cleared
        self._over = self.granted = False
        self.minute = 0
        self.since = now

    @property
    def over(self) -> bool:
        return self._over

    def lacks(self, minute: int) -> Window | Slots | None:
        """Take all parts, or none where one has not enough, which is returned."""
        for share, amount in self.parts:
            if isinstance(share, Window):
                if share.minute != minute:
                    share.turn(minute)
                if share.owed:
                    return share
            if share.free < amount:
                return share
        for share, amount in self.parts:
            if isinstance(share, Slots):
                share.take()
            else:
                share.free -= amount
        self.minute = minute
        self.granted = True
        return None

    def tell(self, error: SubletError | None) -> None:
        if error is not None:
            self._over = True
        self._cleared(error)

    def settle(self, used_input: int, used_output: int) -> None:
        """The request is over, and used so much."""
        if self._end():
            for share, amount in self.parts:
                if isinstance(share, Slots):
                    share.give()
                elif share.kind != REQUESTS:
                    share.settle(amount, used_input if share.kind == INPUT else used_output, self.minute)

    def back(self) -> None:
        """The request used nothing."""
        if self._end():
            for share, amount in self.parts:
                if isinstance(share, Slots):
                    share.give()
                else:
                    share.settle(amount, 0, self.minute)

    def _end(self) -> bool:
        over, self._over = self._over, True
        return self.granted and not over


class _Shares:
    """What is here of one limit."""

    __slots__ = ("limit", "slots", "windows")

    def __init__(self, limit: SharedLimit) -> None:
        self.limit = limit
        self.windows = {
            kind: Window(limit, kind, most)
            for kind, most in ((REQUESTS, limit.requests), (INPUT, limit.input), (OUTPUT, limit.output))
            if most is not None
        }
        self.slots = Slots(limit, limit.concurrency) if limit.concurrency is not None else None

    def change(self, limit: SharedLimit) -> None:
        """The limit allows something else now; what is under way goes on, and what is free is asked for again."""
        fresh = _Shares(limit)
        for kind, window in fresh.windows.items():
            if (old := self.windows.get(kind)) is not None:
                window.owed = old.owed
                fresh.windows[kind] = old
                old.limit, old.most = limit, window.most
                old.free, old.left, old.dry_until = 0, min(old.left, old.most), 0.0
        if self.slots is not None and fresh.slots is not None:
            self.slots.limit, self.slots.most, self.slots.free, self.slots.dry_until = limit, fresh.slots.most, 0, 0.0
            fresh.slots = self.slots
        self.limit, self.windows, self.slots = limit, fresh.windows, fresh.slots


class Limits:
    """The limits that cover requests of this gateway. For the event loop's thread."""

    def __init__(self, host: LimitHost) -> None:
        self._host = host
        self._shares: dict[str, _Shares] = {}
        self._covering: dict[tuple[str, str], tuple[Window | Slots, ...]] = {}
        self._active: dict[Window | Slots, None] = {}
        """Those of which something is here or is wanted, or was a moment ago."""
        self._waiting: list[Claim] = []
        self._answers: dict[str, float] = {}
        self._ordering = self._stopped = self.known = False
        self._beat_at = 0.0
        self._pruned = 0
        self._seen: dict[str, tuple[int, float]] = {}

    def claim(self, grant: KeyGrant, model: ModelRoute, call: Call, cleared: Cleared) -> Claim | None:
        """Take what a request needs, as far as can be known; None where nothing limits it.

        Where the claim is not `granted`, `cleared` is told later. Raises RateLimitError, LimitUnreachableError.
        """
        covering = self._covering.get((grant.id, model.name))
        if covering is None:
            covering = self._cover(grant, model)
        if not covering:
            return None
        now, now_us = self._host.monotonic(), self._host.now_us()
        minute = now_us // US_PER_MINUTE
        parts: list[tuple[Window | Slots, int]] = []
        low = False
        prompt = 0
        for share in covering:
            amount = 1
            if isinstance(share, Window):
                if share.minute != minute:
                    share.turn(minute)
                if share.kind == INPUT:
                    prompt = prompt or max(1, prompt_tokens(call))
                    # What is more than the limit waits for a whole minute, not for ever.
                    amount = min(prompt, share.most)
                elif share.kind == OUTPUT:
                    amount = min(max(1, self._answer_tokens(call, model)), share.most)
            elif self.known and now - self._beat_at > LEASE_S - SAFE_S:
                self._kick()
                raise LimitUnreachableError(retry_after_s=2.0)
            share.note(amount, now)
            if not share.active:
                share.active = True
                self._active[share] = None
            low = low or share.free < share.mark
            parts.append((share, amount))
        claim = Claim(tuple(parts), cleared, now)
        lacking = claim.lacks(minute)
        if lacking is None:
            if low and not self._ordering:
                self._kick()
        elif now < lacking.dry_until:
            raise lacking.refusal(now_us)
        else:
            self._waiting.append(claim)
            self._kick()
        return claim

    def check(self, grant: KeyGrant) -> None:
        """Raises RateLimitError where it is known already that the key may start nothing now, whatever it asks for."""
        now = self._host.monotonic()
        for limit in grant.limits:
            shares = self._shares.get(limit.id) if not limit.model else None
            if shares is None:
                continue
            window, slots = shares.windows.get(REQUESTS), shares.slots
            if window is not None and now < window.dry_until and not window.free:
                now_us = self._host.now_us()
                if window.minute == now_us // US_PER_MINUTE:
                    raise window.refusal(now_us)
            if slots is not None and now < slots.dry_until and not slots.free:
                raise slots.refusal(0)

    def note_answer(self, model: str, tokens: int) -> None:
        """An answer had so many tokens."""
        mean = self._answers.get(model, ANSWER_TOKENS)
        self._answers[model] = mean + (tokens - mean) * 0.05

    def _answer_tokens(self, call: Call, model: ModelRoute) -> int:
        """What an answer is expected to have: what the request allows, or as many as answers of the model have lately."""
        if call.kind in (COUNT, EMBEDDING):
            return 0
        asked = call.output_tokens_max
        usual = self._answers.get(model.name, ANSWER_TOKENS)
        return int(min(usual, model.context_tokens) if asked is None else asked) * call.answers

    def standing(self, grant: KeyGrant, model: ModelRoute) -> dict[str, tuple[int, int]]:
        """What is left of the tightest limit of each kind, and its size, as far as is known here."""
        minute = self._host.now_us() // US_PER_MINUTE
        found: dict[str, tuple[int, int]] = {}
        for share in self._covering.get((grant.id, model.name), ()):
            if isinstance(share, Window):
                left = share.left + share.free if share.minute == minute else share.most
                known = found.get(share.kind)
                if known is None or left < known[1]:
                    found[share.kind] = (share.most, left)
        return found

    def adopt(self, snapshot: Snapshot) -> None:
        """Use the limits of `snapshot`; forget those that are gone."""
        wanted = {limit.id: limit for grant in snapshot.keys.values() for limit in grant.limits}
        wanted |= {limit.id: limit for model in snapshot.models.values() for limit in model.limits}
        self._answers = {name: mean for name, mean in self._answers.items() if name in snapshot.models}
        for identifier, shares in list(self._shares.items()):
            if identifier not in wanted:
                del self._shares[identifier]
            elif shares.limit != wanted[identifier]:
                shares.change(wanted[identifier])
        self._covering.clear()

    def sweep(self) -> None:
        """Called about twice a second: give back what is idle, beat, and refuse those who wait for a database that is away."""
        now = self._host.monotonic()
        late = [claim for claim in self._waiting if now - claim.since > WAIT_S_MAX]
        if late:
            self._waiting = [claim for claim in self._waiting if now - claim.since <= WAIT_S_MAX]
            for claim in late:
                if not claim.over:
                    claim.tell(LimitUnreachableError(retry_after_s=2.0))
        if self.known or self._waiting:
            minute = self._host.now_us() // US_PER_MINUTE
            for share in self._active if self._seen else ():
                if isinstance(share, Slots):
                    share.measure(now)
            if now - self._beat_at > BEAT_S or any(self._idle(share, minute, now) for share in self._active):
                self._kick()

    def stop(self) -> None:
        """Ask for nothing more; those who wait are gone."""
        self._stopped = True
        self._waiting.clear()

    # Own

    def _cover(self, grant: KeyGrant, model: ModelRoute) -> tuple[Window | Slots, ...]:
        found: list[Window | Slots] = []
        for limit in (*grant.limits, *model.limits):
            if limit.model and limit.model != model.name:
                continue
            shares = self._shares.get(limit.id)
            if shares is None:
                shares = self._shares[limit.id] = _Shares(limit)
            found += shares.windows.values()
            if shares.slots is not None:
                found.append(shares.slots)
        self._covering[grant.id, model.name] = tuple(found)
        return tuple(found)

    @staticmethod
    def _idle(share: Window | Slots, minute: int, now: float) -> bool:
        """Whether there is something to give back, or to count."""
        if isinstance(share, Window):
            if share.owed and (share.minute != minute or share.due):
                return True
            if share.minute != minute:
                return False
        elif share.spare:
            return True
        return share.free > 0 and now - share.used_at > IDLE_S

    def _kick(self) -> None:
        if self._ordering or self._stopped:
            return
        now, minute = self._host.monotonic(), self._host.now_us() // US_PER_MINUTE
        needed: dict[Window | Slots, int] = {}
        for claim in self._waiting:
            for share, amount in claim.parts:
                needed[share] = needed.get(share, 0) + amount
        # Others may have taken this run for lost: what it does not use is theirs.
        stale = now - self._beat_at > LEASE_S - SAFE_S
        windows: list[tuple[Window, Want]] = []
        slots: list[tuple[Slots, WantSlots]] = []
        for share in list(self._active):
            if isinstance(share, Window):
                share.turn(minute)
            free = share.free
            least = max(0, needed.get(share, 0) - free)
            back = 0 if needed.get(share) or not self._idle(share, minute, now) else free
            if isinstance(share, Slots) and now - share.used_at <= IDLE_S:
                back = min(back, share.spare)
            target = 0 if back else share.lacking
            if isinstance(share, Slots):
                back = free if stale else back
                # All of them by every order: what a run holds is what its last order said.
                slots.append((share, share.want(needed.get(share, 0) if back else least, target, back)))
            elif least or target or back or share.due:
                windows.append((share, share.want(least, target, back)))
            if not needed.get(share) and not share.busy and now - share.used_at > FORGET_S:
                del self._active[share]
                share.active = False
        asked: list[tuple[Window | Slots, int]] = [(window, want.least) for window, want in windows]
        asked += [(held, wanted.least) for held, wanted in slots]
        lost = tuple((run, beat) for run, (beat, seen) in self._seen.items() if now - seen >= LEASE_S)
        order = Order(
            self._host.run,
            minute,
            tuple(want for _, want in windows),
            tuple(want for _, want in slots),
            lost,
            prune=minute != self._pruned,
        )
        self._pruned = minute
        self._ordering = True
        debts = [(window, want.owed) for window, want in windows]
        self._host.order(order, lambda outcome: self._placed(outcome, asked, debts, (minute, now)))

    def _placed(
        self,
        outcome: Outcome | None,
        asked: list[tuple[Window | Slots, int]],
        debts: list[tuple[Window, int]],
        at: tuple[int, float],
    ) -> None:
        self._ordering = False
        if self._stopped:
            return
        minute, ordered_at = at
        if outcome is None:
            waiting, self._waiting = self._waiting, []
            for claim in waiting:
                if not claim.over:
                    claim.tell(LimitUnreachableError(retry_after_s=2.0))
            return
        now = self._host.monotonic()
        # From when it was asked: the others may count from then on.
        self._beat_at, self.known = ordered_at, True
        self._notice(outcome, now)
        for window, owed in debts:
            window.paid(owed, minute)
        for (share, least), (granted, left) in zip(asked, (*outcome.windows, *outcome.slots), strict=True):
            if not isinstance(share, Window) or share.minute == minute:
                share.granted(granted, left, 0 if outcome.forgotten else least, now)
        self._serve(now)

    def _serve(self, now: float) -> None:
        """Clear those who have enough now; refuse those who lack what is used up."""
        now_us = self._host.now_us()
        minute = now_us // US_PER_MINUTE
        waiting, self._waiting = self._waiting, []
        told: list[tuple[Claim, SubletError | None]] = []
        for claim in waiting:
            if claim.over:
                continue
            lacking = claim.lacks(minute)
            if lacking is None:
                told.append((claim, None))
            elif now < lacking.dry_until:
                told.append((claim, lacking.refusal(now_us)))
            else:
                self._waiting.append(claim)
        for claim, error in told:
            claim.tell(error)
        if self._waiting:
            self._kick()

    def _notice(self, outcome: Outcome, now: float) -> None:
        """Note which other runs have moved, by this process's own clock."""
        before, self._seen = self._seen, {}
        for run, beat in outcome.beats:
            known = before.get(run)
            self._seen[run] = known if known is not None and known[0] == beat else (beat, now)
