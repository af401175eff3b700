"""A server with the OpenAI dialect that another party runs: vLLM, SGLang, TGI, or another gateway."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sublet.models.engines.wire import ask
from sublet.models.model import CatalogEntry, EngineMetrics, EngineStartError


class OpenAIUrlEngine:
    """Driver of a server at a URL; see engines.Engine. Sublet neither starts nor stops it.

    Before it gets requests, it must respond at all. From then on, its health is what gateways observe on customers' requests: a
    server may work without `/v1/models`, or have it and not work.
    """

    def __init__(self, entry: CatalogEntry) -> None:
        self._entry = entry
        self._answered = False
        self._error = "not asked yet"
        # The catalog's URL ends in /v1 by convention of the clients; the gateway adds /v1 itself.
        self._endpoint = entry.source["url"].rstrip("/").removesuffix("/v1")

    @property
    def endpoint(self) -> str:
        return self._endpoint

    @property
    def pid(self) -> int | None:
        return None

    def start(self) -> None:
        variable = self._entry.source.get("key_variable")
        if variable and not os.environ.get(variable):
            raise EngineStartError(f"{self._entry.name} needs its key in the environment variable {variable}; set it")

    def running(self) -> bool:
        return True

    def health(self) -> bool:
        if not self._answered:
            try:
                ask(self._endpoint, "GET", "/v1/models", key=self._key())
            except OSError as error:
                self._error = str(error)
                return False
            self._answered = True
        return True

    def last_words(self) -> str:
        return f"{self._endpoint} does not answer ({self._error})"

    def count_tokens(self, messages: list[dict[str, Any]]) -> int:
        """Uses `/tokenize` of vLLM and SGLang; other servers can't count tokens."""
        body = {"model": self._entry.source.get("model", self._entry.name), "messages": messages}
        try:
            status, answer = ask(self._endpoint, "POST", "/tokenize", body, key=self._key(), timeout_s=10.0)
            if status != 200:
                raise OSError(f"/tokenize answered {status}")
            return int(json.loads(answer)["count"])
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise EngineStartError(f"the engine of {self._entry.name} could not count the tokens ({error})") from error

    def metrics(self) -> EngineMetrics:
        """Zeros: every server names its counters differently, and none of them is required."""
        return EngineMetrics()

    def stop(self, grace_s: float = 2.0) -> None:
        return None

    def _key(self) -> str | None:
        variable = self._entry.source.get("key_variable")
        return os.environ.get(variable) if variable else None


def make(entry: CatalogEntry, replica_id: str, run_dir: Path, threads: int) -> OpenAIUrlEngine:
    """The server that `entry` names, the same for every replica."""
    return OpenAIUrlEngine(entry)
