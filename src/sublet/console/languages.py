"""The words of the pages in each language. The English text is the key, so that a template reads as what it shows.

A language is a file in `catalogs/` with a text for each that `_()` names in the templates, and for each of NAMED; a test keeps them
whole. Each is written as natural text of its language: neither kind of Chinese is made from the other by a table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib import resources

from sublet.console.worth import BASES
from sublet.desk.actuals import CHANNELS, MARKET_COMPARABLES, VERDICTS
from sublet.values.service_classes import SHIPPED

DEFAULT = "en"


def _read() -> dict[str, Mapping[str, str]]:
    folder = resources.files("sublet.console").joinpath("catalogs")
    found: dict[str, Mapping[str, str]] = {DEFAULT: {}}
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".json"):
            found[file.name.removesuffix(".json")] = json.loads(file.read_text(encoding="utf-8"))
    return found


CATALOGS = _read()
"""By language tag. English needs no entries."""
NAMED = frozenset(
    (
        *(
            "Overview",
            "Budgets",
            "Record",
            "Offers",
            "Leases",
            "Playground",
            "Volumes",
            "Images",
            "Blocks",
            "Maintenance",
            "Worth",
            "What if",
        ),
        *("Usage", "Billing", "Keys", "People", "Organizations", "Notifications", "Claims", "Audit log", "Account"),
        *(
            "Webhook, signed JSON",
            "Slack",
            "Microsoft Teams",
            "E-mail",
            "enabled",
            "disabled",
            "failing",
            "waiting",
            "delivered",
            "given up",
        ),
        *(
            "3 offers were not accepted",
            "its time was over before it could be met",
            "lapsed",
            "leased",
            "left",
            "offered",
            "taken off the list",
            "the last offer was not accepted",
            "there is not enough capacity",
        ),
        *("Day", "Model or class", "Meter", "Project", "Key", "Accelerator-hours", "Fees", "GiB-hours of storage"),
        *(
            "Input tokens",
            "Cached input tokens",
            "Output tokens",
            "Reasoning tokens",
            "Number of images",
            "Minutes of audio",
        ),
        *("Requests", "Kilowatt-hours", "active", "ended", "ending", "scheduled", "starting", "paused", "canceled"),
        *("failed", "open", "paid", "overdue", "void", "draft", "correction", "cancellation"),
        *("requested", "preparing", "degraded", "notice", "rejected", "ready", "making", "removing", "removed"),
        *("uploading", "importing", "copying", "snapshotting", "restoring"),
        *(SHIPPED[name].description for name in SHIPPED),
        *CHANNELS,
        *VERDICTS,
        *BASES.values(),
        *(text for other in MARKET_COMPARABLES for text in (other.name, other.source)),
    )
)
"""Texts that templates show by a variable: labels of pages, meters and groups, and states."""
TRADITIONAL = ("zh-hant", "zh-tw", "zh-hk", "zh-mo")
_USED = re.compile(r"""_\(\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")

Translate = Callable[..., str]


def translator(language: str) -> Translate:
    """`_(text, name=value, …)` in that language; a text without a translation stays as it is."""
    catalog = CATALOGS[language]

    def translate(text: str, **values: object) -> str:
        found = catalog.get(text, text)
        return found.format(**values) if values else found

    return translate


def chosen(accepted: str) -> str:
    """The language for an Accept-Language header, among those that there are."""
    for part in accepted[:200].split(","):
        tag = part.partition(";")[0].strip().lower()
        wanted = "zh-Hant" if tag.startswith(TRADITIONAL) else "zh-Hans" if tag.startswith("zh") else tag[:2]
        if wanted in CATALOGS:
            return wanted
    return DEFAULT


def used() -> set[str]:
    """Every text that a template shows through `_()`."""
    folder = resources.files("sublet.console").joinpath("templates")
    texts = [file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".html")]
    return {double or single for text in texts for double, single in _USED.findall(text)}
