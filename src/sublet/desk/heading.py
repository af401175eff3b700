"""The `[case]` table: who a case is about, as of when, its headline results, and what its titles are called in other languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sublet.desk.documents import Table

TRANSLATIONS = ("zh-Hant", "zh-Hans")
"""The languages besides English that a case may be told in."""


@dataclass(frozen=True, slots=True)
class Heading:
    """Who the case is about, and as of when."""

    name: str
    title: str
    owner: str
    as_of: date
    version: str
    currency: str
    summary: str
    results: tuple[str, ...]
    titles: Mapping[str, str]
    words: Mapping[str, Mapping[str, str]]


def read_heading(root: Table) -> Heading:
    """The `[case]` table. Raises CaseError where there is none, or where the desk computes in another currency."""
    if not root.has("case"):
        raise root.fail(None, "there is no [case] table here; `sublet desk init` writes a case to start from")
    table = root.table("case")
    currency = table.text("currency", "USD")
    if currency != "USD":
        message = (
            f"currency is {currency!r}, and the desk computes in USD; convert at a rate that is an input with a source"
        )
        raise table.fail("currency", message)
    titles = table.table("titles")
    named = {name: titles.text(name) for name in titles.data}
    words = {language: _words(table.table("words").table(language)) for language in TRANSLATIONS}
    table.table("words").known(TRANSLATIONS)
    heading = Heading(
        table.text("name"), table.text("title"), table.text("owner"), table.day("as_of"), table.text("version"),
        currency, table.text("summary", ""), tuple(table.texts("results", [])), named, words,
    )  # fmt: skip
    table.asked |= {"claims", "remarks"}
    table.finish()
    return heading


def _words(table: Table) -> dict[str, str]:
    """`[case.words.LANGUAGE]`: what the case's own titles and names are called in another language."""
    return {text: table.text(text) for text in table.data}
