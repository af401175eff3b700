"""Engines: any server with the OpenAI HTTP dialect, plus start, health, token count, metrics and stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from sublet.models.engines.kinds import kind_of
from sublet.models.model import CatalogEntry, EngineMetrics


class Engine(Protocol):
    """One replica's engine, as the host drives it. Nothing here blocks for longer than a few seconds."""

    @property
    def endpoint(self) -> str:
        """`unix:///path` or an http(s) base URL without a trailing slash, to which `/v1/…` is added."""
        ...

    @property
    def pid(self) -> int | None:
        """The process that runs the engine, or None if it runs elsewhere."""
        ...

    def start(self) -> None:
        """Start the engine and return at once. Raises EngineStartError or ModelFileError if it can't start at all."""
        ...

    def running(self) -> bool:
        """Whether the engine has not ended. It may not respond yet: use `health`."""
        ...

    def health(self) -> bool:
        """Whether it responds to requests now."""
        ...

    def last_words(self) -> str:
        """The reason why it ended, in one line, if it reported one."""
        ...

    def count_tokens(self, messages: list[dict[str, Any]]) -> int:
        """The number of tokens in the prompt of these chat messages. Raises EngineStartError if the engine can't count them."""
        ...

    def metrics(self) -> EngineMetrics:
        """Its own counters. Raises OSError if it does not respond."""
        ...

    def stop(self, grace_s: float = 2.0) -> None:
        """End it, by force after `grace_s`. Has no effect if it has ended."""
        ...


def make_engine(entry: CatalogEntry, replica_id: str, run_dir: Path, threads: int) -> Engine:
    """The engine of a replica of `entry`. Its socket and log are in `run_dir` (mode 0700)."""
    made: Engine = kind_of(entry.engine).make()(entry, replica_id, run_dir, threads)
    return made
