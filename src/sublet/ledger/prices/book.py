"""The price book: which price holds for an event, and what is wrong with a book before it is published."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Protocol

from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.tariffs import Tariff
from sublet.ledger.prices.terms import (
    Commitment,
    Discount,
    Fee,
    Price,
    read_commitment,
    read_discount,
    read_price,
)
from sublet.ledger.usage.meters import METERS
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.toml import toml_of

BOOK_BYTES_MAX = 4 * 2**20
ENTRIES_MAX = 20_000
CHAIN_LENGTH_MAX = 120
DIGESTS_MAX = 100_000
AGREED = "agreed:"
"""How the ids of prices begin that were agreed for one resource."""
BUILT_IN = "settings-"
"""How the ids of the prices begin that follow from the settings: they give way to a book of the operator's own."""
_SECTIONS: dict[str, Callable[[Any, str], Any]] = {
    "prices": read_price,
    "discounts": read_discount,
    "commitments": read_commitment,
}


class PriceOverlapError(InvalidInputError):
    """Two prices apply to the same usage at the same time; end one before the other starts, or match more narrowly."""

    code = "price_overlap"


@dataclass(frozen=True, slots=True)
class Rate:
    """A price as it applies to one organization: under a discount or none, next to the list price.

    What counts together towards tiers and free quantities is one chain of prices in one billing period.
    """

    id: str
    price: Price
    tariff: Tariff
    discount: Discount | None
    list_price: Price
    book_version: int = 0
    chain: str = ""
    """The counter of the price: prices that follow each other, and discounts on them, count on together."""
    list_chain: str = ""
    """The counter of the list price where that is another one, else empty."""

    @property
    def list_id(self) -> str:
        """The counter of the list price, empty where it is the rate's own."""
        return "" if self.list_price is self.price and self.discount is None else f"list:{self.id}:{self.list_price.id}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `sublet prices check` reports: an `error` makes the book unusable, a `gap` leaves usage unpriced."""

    severity: str
    where: str
    message: str

    def as_dict(self) -> dict[str, str]:
        return {"severity": self.severity, "where": self.where, "message": self.message}


class OwnTerms(Protocol):
    """The rate cards of single customers."""

    def at(self, organization_id: str, version: int) -> PriceBook | None:
        """The card of a customer as of a version."""
        ...

    def owners(self, version: int) -> Iterator[str]:
        """Customers that had a card as of a version."""
        ...


@dataclass(frozen=True)
class PriceBook:
    """One version of all prices. Immutable: publishing makes a new version."""

    name: str = ""
    version: int = 0
    prices: tuple[Price, ...] = ()
    fees: tuple[Fee, ...] = ()
    discounts: tuple[Discount, ...] = ()
    commitments: tuple[Commitment, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict)
    cards: OwnTerms | None = field(default=None, compare=False)
    """What was agreed with single customers, in versions that count on together with the book's."""
    general_version: int | None = None
    """The version at which the book itself was published, where that is another one."""
    _priced: dict[tuple[str, str, str], list[Price]] = field(default_factory=dict, compare=False)
    _discounted: dict[str, list[Discount]] = field(default_factory=dict, compare=False)
    _terms: dict[str, list[str]] = field(default_factory=dict, compare=False)
    _digests: dict[str, str] = field(default_factory=dict, compare=False)
    _named: dict[str, Price | Discount] = field(default_factory=dict, compare=False)

    @property
    def state(self) -> int:
        """What tells this book from every other one: a version is published once and never changed."""
        return self.version if self.general_version is None else self.general_version

    def __post_init__(self) -> None:
        if self._named:
            return
        for price in self.prices:
            self._priced.setdefault((price.organization, price.meter, price.currency), []).append(price)
        for found in self._priced.values():
            found.sort(key=lambda price: len(price.match), reverse=True)
        for discount in self.discounts:
            self._discounted.setdefault(discount.organization, []).append(discount)
        named: list[Price | Discount] = [*self.prices, *self.discounts]
        for entry in named:
            self._named[entry.id] = entry
            self._terms.setdefault(entry.organization, []).append(f"{entry.id} {entry.valid_until} {entry.content}")

    def at(self, version: int, cards: OwnTerms) -> PriceBook:
        """The same book as of a later version, with the cards of that."""
        return replace(self, version=version, cards=cards, general_version=self.state)

    def card(self, organization: str) -> PriceBook | None:
        """The rate card of an organization, None where it has none."""
        return self.cards.at(organization, self.version) if self.cards is not None and organization else None

    def fees_of(self, organization: str) -> list[Fee]:
        """The fees of an organization."""
        card = self.card(organization)
        return [*(fee for fee in self.fees if fee.organization == organization), *(card.fees if card else ())]

    def commitments_of(self, organization: str) -> list[Commitment]:
        """The commitments of an organization."""
        card = self.card(organization)
        mine = [entry for entry in self.commitments if entry.organization == organization]
        return [*mine, *(card.commitments if card else ())]

    def committed(self) -> Iterator[str]:
        """Organizations that have fees or commitments, some more than once."""
        agreed: tuple[Fee | Commitment, ...] = (*self.fees, *self.commitments)
        yield from (entry.organization for entry in agreed)
        for organization in self.cards.owners(self.version) if self.cards is not None else ():
            card = self.card(organization)
            if card is not None and (card.fees or card.commitments):
                yield organization

    def terms_of(self, organization: str) -> str:
        """SHA-256 over everything that decides on an organization's rates: its own entries and everybody's."""
        card = self.card(organization)
        key = f"{organization} {card.version}" if card else organization
        known = self._digests.get(key)
        if known is None:
            own = "\n".join([*self._terms.get(organization, ()), *(card._terms.get(organization, ()) if card else ())])
            before = self.terms_of("") if organization else ""
            known = hashlib.sha256(f"{before}\n{own}".encode()).hexdigest()
            if len(self._digests) >= DIGESTS_MAX:
                self._digests.clear()
            self._digests[key] = known
        return known

    def price_named(self, identifier: str, organization: str = "") -> Price | None:
        """The price of that id, also of an organization's card."""
        found = self._entry(identifier, organization)
        return found if isinstance(found, Price) else None

    def discount_named(self, identifier: str, organization: str = "") -> Discount | None:
        """The discount of that id, also of an organization's card."""
        found = self._entry(identifier, organization)
        return found if isinstance(found, Discount) else None

    def _entry(self, identifier: str, organization: str) -> Price | Discount | None:
        found = self._named.get(identifier)
        if found is not None:
            return found
        card = self.card(organization)
        return card._named.get(identifier) if card else None

    def _prices(self, organization: str, meter: str, currency: str) -> Iterator[Price]:
        """An organization's own prices and everybody's, in the order in which the first that holds is taken."""
        if organization:
            own = self._priced.get((organization, meter, currency), [])
            card = self.card(organization)
            more = card._priced.get((organization, meter, currency), []) if card else []
            yield from sorted([*own, *more], key=lambda price: -len(price.match)) if own and more else own or more
        yield from self._priced.get(("", meter, currency), ())

    def _discounts(self, organization: str) -> Iterator[Discount]:
        if organization:
            yield from self._discounted.get(organization, ())
            card = self.card(organization)
            yield from card._discounted.get(organization, ()) if card else ()
        yield from self._discounted.get("", ())

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.content, sort_keys=True, default=str).encode()).hexdigest()

    def rate_for(
        self, organization: str, currency: str, meter: str, dimensions: Mapping[str, str], at: datetime
    ) -> Rate | None:
        """The rate of one event, or None where no price holds: own prices first, then the one that matches most."""
        price = list_price = None
        for candidate in self._prices(organization, meter, currency):
            if candidate.holds_at(at) and candidate.matches(dimensions):
                price = price or candidate
                if not candidate.organization:
                    list_price = candidate
                    break
        if price is None:
            return None
        return self.rate_of(price, list_price or price, organization, at)

    def rate_of(self, price: Price, list_price: Price, organization: str, at: datetime) -> Rate:
        """`price` under the greatest discount that applies."""
        meter = METERS[price.meter]
        best: Discount | None = None
        for discount in self._discounts(organization):
            if discount.applies(organization, meter, at) and (
                best is None or (discount.percent, discount.id) > (best.percent, best.id)
            ):
                best = discount
        return rate_under(price, list_price, best, self.version)

    def boundaries(self, organization: str, meter: str, currency: str) -> tuple[list[datetime], int]:
        """The moments at which the rate of a meter may change for an organization, and how many entries say so."""
        entries = 0
        moments: set[datetime] = set()
        found: list[Price | Discount] = [*self._prices(organization, meter, currency), *self._discounts(organization)]
        for entry in found:
            entries += 1
            moments.add(entry.valid_from)
            if entry.valid_until is not None:
                moments.add(entry.valid_until)
        return sorted(moments), entries


def rate_under(price: Price, list_price: Price, discount: Discount | None, version: int) -> Rate:
    """The rate of `price` under `discount`."""
    tariff = price.tariff if discount is None else price.tariff.discounted(discount.percent)
    name = price.id if discount is None else f"{price.id}~{discount.id}"
    chain, list_chain = chain_of(price), chain_of(list_price)
    return Rate(name, price, tariff, discount, list_price, version, chain, "" if list_chain == chain else list_chain)


def chain_of(price: Price) -> str:
    """The counter that a price counts on: its meter, its kind and what it matches. What was agreed for one resource counts
    alone."""
    if price.id.startswith(AGREED):
        return price.id
    name = " ".join((price.meter, price.kind, *(f"{key}={value}" for key, value in price.match)))
    if len(name) <= CHAIN_LENGTH_MAX:
        return name
    return f"{price.meter} {hashlib.sha256(name.encode()).hexdigest()[:32]}"


def book_from_toml(text: str, where: str) -> PriceBook:
    """Read a price book. Raises InvalidInputError that names the file, the entry and the field."""
    return book_from_dict(parsed_toml(text, where), where)


def parsed_toml(text: str, where: str) -> Mapping[str, Any]:
    """TOML without binary fractions. Raises InvalidInputError."""
    if len(text.encode()) > BOOK_BYTES_MAX:
        raise InvalidInputError(f"{where} is larger than {BOOK_BYTES_MAX} bytes")
    try:
        raw = toml_of(text, _no_float)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{where} is not TOML: {error}") from error
    except ValueError as error:
        raise InvalidInputError(f"{where}: {error}") from error
    return raw


def _no_float(text: str) -> Any:
    raise ValueError(f'{text} is a binary fraction; write it as the string "{text}"')


def book_from_dict(raw: Mapping[str, Any], where: str, version: int = 0) -> PriceBook:
    """The same from parsed JSON or TOML."""
    fields = Fields(raw, where, frozenset(("name", *_SECTIONS)))
    name = fields.text("name", "")
    read: dict[str, list[Any]] = {section: [] for section in _SECTIONS}
    seen: set[str] = set()
    for section, reader in _SECTIONS.items():
        entries = fields.get(section) or []
        if not isinstance(entries, list) or len(entries) > ENTRIES_MAX:
            raise fields.fail(section, f"must be a list of at most {ENTRIES_MAX} tables")
        for number, entry in enumerate(entries, 1):
            label = entry.get("id") if isinstance(entry, Mapping) else None
            parsed = reader(entry, f"{where}: [[{section}]] {number}" + (f" ({label})" if label else ""))
            if parsed.id in seen:
                raise InvalidInputError(f"{where}: [[{section}]] {number}: id {parsed.id!r} is used twice")
            seen.add(parsed.id)
            read[section].append(parsed)
    book = PriceBook(
        name,
        version,
        tuple(entry for entry in read["prices"] if isinstance(entry, Price)),
        tuple(entry for entry in read["prices"] if isinstance(entry, Fee)),
        tuple(read["discounts"]),
        tuple(read["commitments"]),
        _jsonable(raw),
    )
    for finding in check(book):
        if finding.severity == "error":
            raise PriceOverlapError(f"{where}: {finding.where}: {finding.message}")
    return book


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return {key: _jsonable(inner) for key, inner in value.items()}
    return [_jsonable(inner) for inner in value] if isinstance(value, list) else value


def check(book: PriceBook) -> list[Finding]:
    """Overlaps (errors) and gaps of a book, in the book's own order."""
    groups: dict[tuple[str, str, str], list[Price]] = defaultdict(list)
    for price in book.prices:
        groups[price.organization, price.meter, price.currency].append(price)
    found: list[Finding] = []
    for group in groups.values():
        found += _price_overlaps(group)
        found += _gaps(group)
    found += _commitment_overlaps(book.commitments)
    priced = {price.meter for price in book.prices}
    found += [
        Finding("gap", name, "has no price at all; such usage waits until it has one")
        for name in METERS
        if name not in priced
    ]
    return found


def _overlap(a: Price | Commitment, b: Price | Commitment) -> bool:
    if a.valid_until == a.valid_from or b.valid_until == b.valid_from:
        return False
    return (a.valid_until is None or b.valid_from < a.valid_until) and (
        b.valid_until is None or a.valid_from < b.valid_until
    )


def _price_overlaps(group: Sequence[Price]) -> list[Finding]:
    found: list[Finding] = []
    by_width: dict[int, list[Price]] = defaultdict(list)
    for price in group:
        by_width[len(price.match)].append(price)
    for width in by_width.values():
        for index, first in enumerate(width):
            for second in width[index + 1 :]:
                if _overlap(first, second) and _compatible(first, second):
                    message = (
                        f"and {second.id} both price {first.meter} from "
                        f"{format_time(max(first.valid_from, second.valid_from))}; "
                        "end one before the other starts, or match more narrowly"
                    )
                    found.append(Finding("error", first.id, message))
    return found


def _compatible(a: Price, b: Price) -> bool:
    theirs = dict(b.match)
    return all(theirs.get(name, value) == value for name, value in a.match)


def _gaps(group: Sequence[Price]) -> list[Finding]:
    found: list[Finding] = []
    series: dict[tuple[tuple[str, str], ...], list[Price]] = defaultdict(list)
    for price in group:
        if price.valid_until != price.valid_from:
            series[price.match].append(price)
    for prices in series.values():
        ordered = sorted(prices, key=lambda price: price.valid_from)
        for before, after in pairwise(ordered):
            if before.valid_until is not None and before.valid_until < after.valid_from:
                span = f"from {format_time(before.valid_until)} to {format_time(after.valid_from)}"
                found.append(Finding("gap", before.id, f"leaves {before.meter} without a price {span}"))
        last = ordered[-1]
        if last.valid_until is not None:
            message = f"ends at {format_time(last.valid_until)} and nothing of the same match follows"
            found.append(Finding("gap", last.id, message))
    return found


def _commitment_overlaps(commitments: Sequence[Commitment]) -> list[Finding]:
    found: list[Finding] = []
    by_owner: dict[str, list[Commitment]] = defaultdict(list)
    for commitment in commitments:
        by_owner[commitment.organization].append(commitment)
    for own in by_owner.values():
        for index, first in enumerate(own):
            for second in own[index + 1 :]:
                same = first.product == second.product or not first.product or not second.product
                if same and _overlap(first, second):
                    found.append(Finding("error", first.id, f"and {second.id} commit the same usage twice"))
    return found


def ensure_no_overlap(entries: Sequence[Price | Fee | Discount | Commitment], card: PriceBook) -> None:
    """Raises PriceOverlapError where entries of a customer hold for the same usage as its card's at the same time."""
    both = PriceBook(
        prices=tuple(entry for entry in (*entries, *card.prices) if isinstance(entry, Price)),
        commitments=tuple(entry for entry in (*entries, *card.commitments) if isinstance(entry, Commitment)),
    )
    for finding in check(both):
        if finding.severity == "error":
            raise PriceOverlapError(f"{finding.where}: {finding.message}")


def ensure_continues(before: PriceBook, after: PriceBook) -> None:
    """An entry that was published may end, but not change or vanish: history is rated by it. Raises ConflictError."""
    new = {entry.id: entry for entry in entries_of(after)}
    for entry in entries_of(before):
        successor = new.get(entry.id)
        if successor is None:
            if entry.id.startswith(BUILT_IN):
                continue
            raise ConflictError(f"{entry.id} is missing; keep it and give it an `until` instead of deleting it")
        if successor.content != entry.content:
            raise ConflictError(f"{entry.id} has changed; end it with `until` and add the new terms under a new id")


def with_built_in(before: PriceBook, book: PriceBook) -> PriceBook:
    """`book`, and with it the built-in prices of `before` that it leaves out: each for good where `book` has no price of its
    meter and currency for everybody, and else until the first of those begins."""
    named = {price.id for price in book.prices}
    begins: dict[tuple[str, str], datetime] = {}
    for price in book.prices:
        if not price.organization:
            key = (price.meter, price.currency)
            begins[key] = min(begins.get(key, price.valid_from), price.valid_from)
    carried: list[dict[str, Any]] = []
    written = {entry["id"]: entry for entry in before.content.get("prices", ())}
    for price in before.prices:
        if not price.id.startswith(BUILT_IN) or price.id in named:
            continue
        end = begins.get((price.meter, price.currency))
        if end is None or (price.valid_until is not None and price.valid_until <= end):
            carried.append(dict(written[price.id]))
        elif end > price.valid_from:
            carried.append({**written[price.id], "until": format_time(end)})
    if not carried:
        return book
    return book_from_dict({**book.content, "prices": [*carried, *book.content.get("prices", ())]}, "the price book")


def entries_of(book: PriceBook) -> tuple[Price | Fee | Discount | Commitment, ...]:
    """Everything that a book holds."""
    return (*book.prices, *book.fees, *book.discounts, *book.commitments)
