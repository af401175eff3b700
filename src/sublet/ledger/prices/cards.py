"""Rate cards: what was agreed with one customer, each in rows of its own, so that a change of one customer's terms reads, checks and
forgets nothing of the others'.

Versions count on together with those of the price book: version N of everything is the newest price book and, for each customer, the
newest card up to N.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from sublet.ledger.prices.book import PriceBook, book_from_dict, parsed_toml
from sublet.ledger.prices.fields import Fields
from sublet.values.errors import InvalidInputError

CARDS_PARSED_MAX = 20_000
"""Cards that are remembered as terms; the one that was asked for longest ago is forgotten first."""
CARD_ENTRIES_MAX = 1_000
CARD_BYTES_MAX = 256 * 1024


class Cards:
    """Every version of every customer's card, shared by all versions of the price book."""

    def __init__(self) -> None:
        self._versions: dict[str, list[int]] = defaultdict(list)
        self._contents: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._parsed: OrderedDict[tuple[str, int], PriceBook] = OrderedDict()

    def add(self, organization_id: str, version: int, content: Mapping[str, Any]) -> None:
        """A card as it lies in the database, newer than every one before."""
        self._versions[organization_id].append(version)
        self._contents[organization_id, version] = content

    def at(self, organization_id: str, version: int) -> PriceBook | None:
        """The card of a customer as of a version of everything; None where there was none."""
        versions = self._versions.get(organization_id)
        place = bisect_right(versions, version) if versions else 0
        if not versions or not place:
            return None
        key = (organization_id, versions[place - 1])
        known = self._parsed.get(key)
        if known is None:
            if len(self._parsed) >= CARDS_PARSED_MAX:
                self._parsed.popitem(last=False)
            known = self._parsed[key] = book_from_dict(self._contents[key], f"rate card of {organization_id}", key[1])
        else:
            self._parsed.move_to_end(key)
        return known

    def owners(self, version: int) -> Iterator[str]:
        """Customers that had a card as of a version, in the order of their first ones."""
        for organization_id, versions in self._versions.items():
            if versions[0] <= version:
                yield organization_id

    def ids(self, version: int) -> dict[str, str]:
        """Whose card names each entry, by the entry's id, without reading the terms."""
        found: dict[str, str] = {}
        for organization_id in self.owners(version):
            versions = self._versions[organization_id]
            content = self._contents[organization_id, versions[bisect_right(versions, version) - 1]]
            for section in ("prices", "discounts", "commitments"):
                found |= {entry["id"]: organization_id for entry in content.get(section, ())}
        return found


def card_from_toml(text: str, organization_id: str, where: str) -> PriceBook:
    """Read a rate card. Raises InvalidInputError that names the file, the entry and the field."""
    return card_from_dict(parsed_toml(text, where), organization_id, where)


def card_from_dict(raw: Mapping[str, Any], organization_id: str, where: str) -> PriceBook:
    """The same from parsed JSON or TOML."""
    return book_from_dict(card_content(raw, organization_id, where), where)


def card_content(raw: Mapping[str, Any], organization_id: str, where: str) -> dict[str, Any]:
    """The content of a card, each entry for its customer. Raises InvalidInputError for an entry of another one, and for too many."""
    fields = Fields(raw, where, frozenset(("name", "prices", "discounts", "commitments")))
    content: dict[str, Any] = {"name": fields.text("name", "")}
    count = 0
    for section in ("prices", "discounts", "commitments"):
        entries = fields.get(section) or []
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise fields.fail(section, "must be a list of tables")
        count += len(entries)
        for entry in entries:
            owner = entry.get("organization") or organization_id
            if owner != organization_id:
                raise InvalidInputError(
                    f"{where}: {entry.get('id')} is for {owner!r}; a rate card is for one organization"
                )
        content[section] = [{**entry, "organization": organization_id} for entry in entries]
    if count > CARD_ENTRIES_MAX:
        raise InvalidInputError(f"{where}: a rate card has at most {CARD_ENTRIES_MAX} entries, this one {count}")
    return {name: value for name, value in content.items() if value}
