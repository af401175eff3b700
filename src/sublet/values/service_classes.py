"""Classes of service: what is promised of rented accelerators, how it is taken back, at what risk and price. One table of them.

Every part reads the table: the rule and the ladder, quotes, reclaims, credits, prices, the record, the console, the CLI and the
API. A class that the settings add needs no code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from sublet.values.errors import InvalidInputError

HOUR_S = 3600
WINDOW_S_MAX = 90 * 24 * HOUR_S
NOTICE_S_MAX = 24 * HOUR_S
GIVE_BACK_FREE_S_MAX = 90 * 24 * HOUR_S
LONG_SHARE = 0.15
WINDOWS_DEFAULT_S = (24 * HOUR_S, 12 * HOUR_S, 4 * HOUR_S, HOUR_S)
ORDERS_DEFAULT = ((1, 8), (1, 24), (4, 24), (12, 24), (24, 48))
ORDER_HOURS_MAX = 14 * 24
CLASSES_MAX = 8
"""More classes than these can't be told apart in a chart, and each costs a shadow per pool."""
NAME_LENGTH_MAX = 16
NAME = re.compile(r"[a-z][a-z0-9_-]{0,15}")
RESERVED = ("model", "own", "sale", "capacity", "held", "withheld")
"""Names that the console's chart uses for what is not sold as a class."""


OWN_NOTICE = "+"
"""Stands before the class's name, in the calendar, where a tenant has a longer notice than its class."""


def book_name(class_name: str, own_notice: bool) -> str:
    """What the calendar calls the class of something that is sold. With a notice of its own, it is none of the classes that the
    rule knows, and so counts as held for all of its window."""
    return f"{OWN_NOTICE}{class_name}" if own_notice else class_name


def class_in_book(name: str) -> str:
    """The class that the calendar means by `name`."""
    return name.removeprefix(OWN_NOTICE)


class UnknownClassError(InvalidInputError):
    """There is no such class of service; `GET /v1/classes` lists those on sale."""

    code = "unknown_class"


class TakeBack(StrEnum):
    """How the owner takes back what is sold in a class."""

    NEVER = "never"
    """Not before the end of its window, except by force, which pays the credit as a penalty."""
    NOTICE = "notice"
    """After the notice period; the rest of the window is not delivered."""
    AT_ONCE = "at_once"
    """Without any notice."""
    PAUSE = "pause"
    """Paused after the notice period and resumed later: hours by a deadline are promised, not a window."""


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """One class of service.

    `notice_s` is None for a class that is never taken back. Of two classes the one with the higher `strictness` promises more:
    it is sold more cautiously and taken back later. `broken_per_1000_max` is the risk that the operator accepts: promises
    that may be broken per 1,000 sold. `price_ratio` multiplies the pool's price. `credit_ratio` is the credit at reclaim as a
    share of the value of the undelivered rest (for a class that is never taken back: the penalty when it is broken by force,
    for one that is paused: the credit when it is late); a lease reclaimed within its first `free_s` seconds costs nothing.
    A tenant who gives time back pays `give_back_ratio` of its price, and nothing for time that begins `give_back_free_s` or more
    from then.

    `teardown_s` is what clearing an accelerator takes after the notice. `windows_s` are the window lengths that the ladder
    offers, longest first. Of a class that is never taken back, at most `long_share_max` of what could be sold for the
    shortest window is sold for longer ones, and windows of half a day and more are sold by a forecast only with `long_windows`.
    `orders` are the orders of a paused class: hours of service, and within how many hours they are done. Raises
    InvalidInputError.
    """

    name: str
    take_back: TakeBack
    notice_s: int | None
    broken_per_1000_max: float
    strictness: int
    price_ratio: Decimal = Decimal(1)
    credit_ratio: Decimal = Decimal(0)
    free_s: int = 0
    sell: bool = True
    long_share_max: float = LONG_SHARE
    description: str = ""
    teardown_s: int = 30
    windows_s: tuple[int, ...] = WINDOWS_DEFAULT_S
    long_windows: bool = False
    orders: tuple[tuple[int, int], ...] = ORDERS_DEFAULT
    give_back_free_s: int = 0
    give_back_ratio: Decimal = Decimal(0)
    longest_notice_s: int = 0
    """The longest notice that a tenant may ask for; none longer than `notice_s` if it is not above that."""
    longer_notice_ratio: Decimal = Decimal(0)
    """What each further hour of notice adds to the price, as a share of it."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name in RESERVED:
            raise InvalidInputError(
                f"class {self.name!r}: a name has 1 to 16 lowercase letters, digits, - and _, begins with a letter, and is none "
                f"of {', '.join(RESERVED)}"
            )
        if (self.notice_s is None) != (self.take_back is TakeBack.NEVER):
            raise InvalidInputError(
                f"class {self.name}: notice_s is required for classes that are taken back, and not allowed for others"
            )
        if self.notice_s is not None and not 0 <= self.notice_s <= NOTICE_S_MAX:
            raise InvalidInputError(f"notice_s of class {self.name} must be 0 to {NOTICE_S_MAX} seconds")
        if self.take_back is TakeBack.AT_ONCE and self.notice_s:
            raise InvalidInputError(f'class {self.name} has a notice_s; for that, set take_back = "notice"')
        if not 0 < self.broken_per_1000_max <= 1000:
            raise InvalidInputError(
                f"broken_per_1000_max of class {self.name} is {self.broken_per_1000_max}; write a number above 0, at most 1000"
            )
        if not self.windows_s or any(not 0 < window <= WINDOW_S_MAX for window in self.windows_s):
            raise InvalidInputError(f"windows of class {self.name} must be from 1 to {WINDOW_S_MAX} seconds long")
        for field, least, most in (
            ("long_share_max", 0, 1),
            ("credit_ratio", 0, 10),
            ("free_s", 0, NOTICE_S_MAX),
            ("give_back_free_s", 0, GIVE_BACK_FREE_S_MAX),
            ("give_back_ratio", 0, 1),
            ("longest_notice_s", 0, NOTICE_S_MAX),
            ("longer_notice_ratio", 0, 10),
        ):
            if not least <= getattr(self, field) <= most:
                raise InvalidInputError(
                    f"{field} of class {self.name} is {getattr(self, field)}; write a number from {least} to {most}"
                )
        if any(not 1 <= hours <= within <= ORDER_HOURS_MAX for hours, within in self.orders):
            raise InvalidInputError(
                f"orders of class {self.name} are pairs of hours of service and the hours within which they are done, such as "
                f"[4, 24], at most {ORDER_HOURS_MAX}"
            )
        if self.give_back_ratio and self.by_window and not self.give_back_free_s:
            raise InvalidInputError(
                f"give_back_ratio of class {self.name} charges nothing without give_back_free_s, within how many seconds it is charged"
            )
        if self.give_back_ratio and not self.by_window:
            raise InvalidInputError(
                f"give_back_ratio of class {self.name}: hours by a deadline are given back for nothing"
            )
        if self.lengthens and len(self.name) >= NAME_LENGTH_MAX:
            raise InvalidInputError(f"class {self.name}: with a longest_notice_s, its name has at most 15 characters")
        object.__setattr__(self, "windows_s", tuple(sorted(self.windows_s, reverse=True)))

    @property
    def reclaimable(self) -> bool:
        """Whether the owner may take it back before its end without breaking the promise."""
        return self.take_back is not TakeBack.NEVER

    @property
    def by_window(self) -> bool:
        """Whether it is sold as a window of time, as leases are; a paused class is sold as hours by a deadline."""
        return self.take_back is not TakeBack.PAUSE

    @property
    def patience_s(self) -> float:
        """Seconds until a promise of the class is over at the latest once it is taken back; infinite where it can't be."""
        return float("inf") if self.notice_s is None else self.notice_s + self.teardown_s

    @property
    def shortest_s(self) -> int:
        """The shortest window length of the ladder."""
        return self.windows_s[-1]

    @property
    def laddered(self) -> bool:
        """Whether long and short promises share the risk of one pool."""
        return self.notice_s is None and len(self.windows_s) > 1 and self.risk < 1

    @property
    def risk(self) -> float:
        """The share of promises that may be broken."""
        return self.broken_per_1000_max / 1000

    def horizon_s(self, window_s: float) -> float:
        """How far ahead the peak of demand matters for a promise of `window_s`: until it can be taken back."""
        if self.notice_s is None:
            return window_s
        return min(window_s, self.notice_s + self.teardown_s)

    @property
    def lengthens(self) -> bool:
        """Whether a tenant may ask for a longer notice."""
        return self.take_back is TakeBack.NOTICE and self.longest_notice_s > (self.notice_s or 0)

    def lengthened(self, notice_s: int | None) -> ServiceClass:
        """The class with a longer notice that a tenant asks for; itself for None. Raises InvalidInputError for a notice that it
        is not sold with."""
        if notice_s is None or notice_s == self.notice_s:
            return self
        if not self.lengthens or self.notice_s is None:
            raise InvalidInputError(
                f"class {self.name} is not sold with another notice; leave notice_s out", field="notice_s"
            )
        if not self.notice_s <= notice_s <= self.longest_notice_s:
            raise InvalidInputError(
                f"class {self.name} is sold with {self.notice_s} to {self.longest_notice_s} seconds of notice, not {notice_s}",
                field="notice_s",
            )
        return replace(self, notice_s=notice_s)

    def with_notice(self, notice_s: int | None) -> ServiceClass:
        """The class as the rule has to see something that was sold with a longer notice, whatever the class sells by now."""
        if notice_s is None or self.notice_s is None or notice_s <= self.notice_s:
            return self
        take_back = TakeBack.NOTICE if self.take_back is TakeBack.AT_ONCE else self.take_back
        return replace(self, notice_s=notice_s, take_back=take_back)

    def notice_factor(self, notice_s: int | None) -> Fraction:
        """By what the price is multiplied for a notice of `notice_s`; 1 for the class's own."""
        if notice_s is None or self.notice_s is None or notice_s <= self.notice_s:
            return Fraction(1)
        return 1 + Fraction(self.longer_notice_ratio) * Fraction(notice_s - self.notice_s, HOUR_S)

    def notice_rule(self, notice_s: int | None) -> str:
        """How a longer notice is priced, in one sentence; empty if it is not longer."""
        if notice_s is None or self.notice_s is None or notice_s <= self.notice_s:
            return ""
        added = float(self.notice_factor(notice_s) - 1) * 100
        return (
            f"{notice_s / 60:g} minutes of notice instead of {self.notice_s / 60:g} add {added:.3g} % to the price: "
            f"{float(self.longer_notice_ratio) * 100:g} % for each further hour."
        )

    @property
    def sentence(self) -> str:
        """What a customer is told of it: the description, or how it is taken back where there is none."""
        if self.description:
            return self.description
        if self.notice_s is None:
            return "Not reclaimed before its end."
        verb = "Reclaimed" if self.by_window else "Paused"
        return f"{verb} after {self.notice_s} seconds' notice." if self.notice_s else f"{verb} without notice."

    def as_dict(self) -> dict[str, Any]:
        """What its customers may know."""
        return {
            "name": self.name,
            "description": self.sentence,
            "take_back": self.take_back.value,
            "notice_s": self.notice_s,
            "price_ratio": str(self.price_ratio),
            "credit_ratio": str(self.credit_ratio),
            "free_s": self.free_s,
            "strictness": self.strictness,
            "give_back_free_s": self.give_back_free_s,
            "give_back_ratio": str(self.give_back_ratio),
            "longest_notice_s": self.longest_notice_s if self.lengthens else self.notice_s,
            "longer_notice_ratio": str(self.longer_notice_ratio),
        }


class ServiceClasses(Mapping[str, ServiceClass]):
    """The classes of one installation by name, the strictest first.

    Raises InvalidInputError where two have one name or one strictness, where a stricter class may break more promises than a
    looser one, and where a class that is never taken back is not the strictest.
    """

    def __init__(self, classes: Iterable[ServiceClass]) -> None:
        found = sorted(classes, key=lambda item: -item.strictness)
        if not found:
            raise InvalidInputError("there are no classes of service; define at least one")
        _checked_names(found)
        for stricter, looser in pairwise(found):
            if stricter.strictness == looser.strictness:
                raise InvalidInputError(
                    f"classes {stricter.name} and {looser.name} have the same strictness, {looser.strictness}; "
                    "give each class a different strictness"
                )
            if stricter.broken_per_1000_max > looser.broken_per_1000_max:
                raise InvalidInputError(
                    f"broken_per_1000_max of class {stricter.name} is {stricter.broken_per_1000_max:g} and that of {looser.name}, "
                    f"which is less strict, {looser.broken_per_1000_max:g}; a stricter class may not break more"
                )
            if looser.take_back is TakeBack.NEVER and stricter.take_back is not TakeBack.NEVER:
                raise InvalidInputError(
                    f"class {looser.name} is never taken back, but {stricter.name}, which is, has a higher strictness; "
                    f"raise the strictness of {looser.name}"
                )
        self._classes = MappingProxyType({item.name: item for item in found})

    def __getitem__(self, name: str) -> ServiceClass:
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __hash__(self) -> int:
        return hash(frozenset(self._classes.values()))

    @property
    def strictest(self) -> ServiceClass:
        """The class that is taken back last."""
        return next(iter(self._classes.values()))

    @property
    def on_sale(self) -> tuple[ServiceClass, ...]:
        """Those that the settings sell."""
        return tuple(item for item in self._classes.values() if item.sell)

    @property
    def loosest(self) -> str:
        """The name of the least strict class that is on sale by windows; empty where none is."""
        return next((item.name for item in reversed(self.on_sale) if item.by_window), "")

    def named(self, name: str) -> ServiceClass:
        """The class of that name, if it is on sale. Raises UnknownClassError."""
        found = self._classes.get(name)
        if found is None or not found.sell:
            known = ", ".join(item.name for item in self.on_sale)
            raise UnknownClassError(
                f"class {name!r} is not on sale here; use one of {known}" if known else "no class is on sale here"
            )
        return found

    def place_of(self, name: str, notice_s: int | None) -> int:
        """The strictness of something sold as class `name` with that notice: who has a lower place is taken back first.

        A class that the settings no longer have stands beside the strictest one that gives no longer notice than it did.
        """
        known = self._classes.get(name)
        if known is not None:
            return known.strictness
        patience_s = float("inf") if notice_s is None else notice_s
        shorter = (
            item.strictness
            for item in self._classes.values()
            if item.by_window and (float("inf") if item.notice_s is None else item.notice_s) <= patience_s
        )
        return max(shorter, default=min(item.strictness for item in self._classes.values()))


def _checked_names(classes: list[ServiceClass]) -> None:
    if len(classes) > CLASSES_MAX:
        raise InvalidInputError(f"{len(classes)} classes of service; the maximum is {CLASSES_MAX}")
    names = [item.name for item in classes]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"there are two classes named {name}; give each class a unique name")


SHIPPED = ServiceClasses(
    (
        ServiceClass(
            "firm",
            TakeBack.NEVER,
            None,
            1.0,
            300,
            price_ratio=Decimal("1.5"),
            credit_ratio=Decimal("1.25"),
            description="Yours until the end of the window; if the owner breaks it, the credit exceeds the undelivered part.",
        ),
        ServiceClass(
            "notice",
            TakeBack.NOTICE,
            300,
            10.0,
            200,
            credit_ratio=Decimal("0.10"),
            longest_notice_s=4 * HOUR_S,
            longer_notice_ratio=Decimal("0.05"),
            description="The owner may take it back after the notice period, with a credit on the undelivered rest.",
        ),
        ServiceClass(
            "deadline",
            TakeBack.PAUSE,
            120,
            10.0,
            180,
            price_ratio=Decimal("0.6"),
            credit_ratio=Decimal("0.5"),
            description="Hours of service by a deadline, paused with notice and resumed in between; if it is late, you are credited.",
        ),
        ServiceClass(
            "spot",
            TakeBack.NOTICE,
            120,
            1000.0,
            100,
            price_ratio=Decimal("0.4"),
            free_s=600,
            description="The cheapest: the owner may take it back at any time after a short notice.",
        ),
    )
)
"""What an installation sells unless its settings say otherwise."""
