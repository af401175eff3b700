"""The words of the pages in each language. The English text is the key, so that a template reads as what it shows.

A language is a line in CATALOGS with a text for each that `_()` names in the templates; a test keeps them whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import resources

CATALOGS: dict[str, Mapping[str, str]] = {"en": {}}
"""By language tag. English needs no entries."""
DEFAULT = "en"
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
