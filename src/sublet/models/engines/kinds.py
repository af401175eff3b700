"""The kinds of engine: what a catalog entry needs, how the engine is driven, and which dialect it speaks. A new kind is one file
and one line.

For how to add one and the test suite for it, see docs/add-an-engine.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from sublet.values.errors import InvalidInputError

DIALECTS = ("openai", "vllm", "sglang", "llamacpp")
"""What a server knows beyond OpenAI's API; `openai` is nothing."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class EngineKind:
    """A kind of engine. `driver` is the module and function that create one, as `module:function`. Only the engine host imports
    it.

    `needs` are the required keys of a catalog entry's `source`, and `knows` all allowed keys. `elsewhere` means that another
    party runs it at `source.url`: by default, it occupies no accelerator; each URL is one replica; and its key comes from the
    environment. `weights` means that the model is a file on this machine. `dialect` is its extension of OpenAI's API; empty if
    `source.dialect` states it. `stream_only` means that it gets only streaming requests, and `reuse_connections` that a
    connection serves several requests.
    """

    name: str
    driver: str
    needs: frozenset[str]
    knows: frozenset[str] = frozenset()
    elsewhere: bool = False
    weights: bool = False
    dialect: str = ""
    stream_only: bool = False
    reuse_connections: bool = True

    def make(self) -> Callable[..., Any]:
        """The function (entry, replica_id, run_dir, threads) that creates an engine; see engines.Engine."""
        module, _, function = self.driver.partition(":")
        found: Callable[..., Any] = getattr(import_module(module), function)
        return found

    def dialect_of(self, source: Mapping[str, str]) -> str:
        """The name of the dialect of an entry with that source."""
        return self.dialect or source.get("dialect", "openai")

    def checked(self, source: Mapping[str, Any], where: str) -> dict[str, str]:
        """`source`, if it is valid for this kind. Raises InvalidInputError; `where` is the beginning of its message."""
        known = self.needs | self.knows
        for name, value in source.items():
            if name not in known or not isinstance(value, str) or not value:
                raise InvalidInputError(
                    f"{where}.source.{name}: {self.name} knows {', '.join(sorted(known))}, each a string"
                )
        for name in sorted(self.needs - set(source)):
            raise InvalidInputError(f"{where}.source.{name}: is missing")
        if "url" in source:
            parts = urlsplit(source["url"])
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
                raise InvalidInputError(f"{where}.source.url: write it like http://127.0.0.1:8000/v1")
        if "key_variable" in source and not _VARIABLE.fullmatch(source["key_variable"]):
            raise InvalidInputError(
                f"{where}.source.key_variable: set this to the name of an environment variable, not to the key itself"
            )
        if source.get("dialect", "openai") not in DIALECTS:
            raise InvalidInputError(f"{where}.source.dialect: choose from {', '.join(DIALECTS)}")
        return dict(source)


KINDS: dict[str, EngineKind] = {
    kind.name: kind
    for kind in (
        # llama.cpp's server failed now and then on a connection used again.
        EngineKind(
            "llamacpp",
            "sublet.models.engines.llamacpp:make",
            frozenset({"path"}),
            weights=True,
            dialect="llamacpp",
            stream_only=True,
            reuse_connections=False,
        ),
        EngineKind(
            "openai_url",
            "sublet.models.engines.openai_url:make",
            frozenset({"url"}),
            frozenset({"model", "key_variable", "dialect"}),
            elsewhere=True,
        ),
    )
}
"""By the name that the catalog uses."""


def kind_of(engine: str) -> EngineKind:
    """The kind of that name. Raises InvalidInputError."""
    kind = KINDS.get(engine)
    if kind is None:
        raise InvalidInputError(f"engine {engine!r} is not one of {', '.join(KINDS)}")
    return kind
