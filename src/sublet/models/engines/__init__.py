"""Engines: whatever speaks the OpenAI HTTP dialect, plus start, health, token count, metrics and stop."""

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
        """The process that does the work, None where it is elsewhere."""
        ...

    def start(self) -> None:
        """Begin; returns at once. Raises EngineStartError or ModelFileError where it can't begin at all."""
        ...

    def running(self) -> bool:
        """Whether the engine has not ended. One that runs may not answer yet: ask `health`."""
        ...

    def health(self) -> bool:
        """Whether it answers requests now."""
        ...

    def last_words(self) -> str:
        """Why it ended, in one line, as far as it said."""
        ...

    def count_tokens(self, messages: list[dict[str, Any]]) -> int:
        """Tokens of the prompt that these chat messages make. Raises EngineStartError where the engine can't say."""
        ...

    def metrics(self) -> EngineMetrics:
        """Its own counters. Raises OSError where it does not answer."""
        ...

    def stop(self, grace_s: float = 2.0) -> None:
        """End it, by force after `grace_s`; harmless where it ended already."""
        ...


def make_engine(entry: CatalogEntry, replica_id: str, run_dir: Path, threads: int) -> Engine:
    """The engine of a replica of `entry`; `run_dir` (mode 0700) takes its socket and its log."""
    made: Engine = kind_of(entry.engine).make()(entry, replica_id, run_dir, threads)
    return made
