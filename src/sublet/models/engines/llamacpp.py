"""llama.cpp as a supervised child process, one per replica, on a Unix socket in a directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sublet.models.catalog import verified_weights
from sublet.models.engines.wire import ask
from sublet.models.model import CatalogEntry, EngineMetrics, EngineStartError

CACHE_RAM_MIB = 256
LAST_WORDS_BYTES_MAX = 4096
# The path of a Unix socket has at most 108 bytes, including its final zero.
SOCKET_PATH_BYTES_MAX = 107

_COUNTERS = {
    "llamacpp:requests_processing": "processing",
    "llamacpp:requests_deferred": "waiting",
    "llamacpp:prompt_tokens_total": "tokens_input",
    "llamacpp:prompt_tokens_cached_total": "tokens_input_cached",
    "llamacpp:tokens_predicted_total": "tokens_output",
}


class LlamaCppEngine:
    """Driver of one llama.cpp child; see engines.Engine."""

    def __init__(self, entry: CatalogEntry, replica_id: str, run_dir: Path, threads: int) -> None:
        self._entry = entry
        self._socket = run_dir / f"{replica_id[-16:]}.sock"
        self._log = run_dir / f"{replica_id[-16:]}.log"
        self._threads = threads
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        weights = verified_weights(self._entry)
        if len(os.fsencode(self._socket)) > SOCKET_PATH_BYTES_MAX:
            raise EngineStartError(f"{self._socket} is too long for a Unix socket; choose a shorter data_dir")
        self._socket.unlink(missing_ok=True)
        config = {
            "weights": str(weights),
            "model": self._entry.name,
            "socket": str(self._socket),
            "slots": self._entry.slots,
            "context_tokens": self._entry.context_tokens,
            "threads": self._threads,
            "cache_ram_mib": CACHE_RAM_MIB,
            "gpu_layers": -1 if os.environ.get("CUDA_VISIBLE_DEVICES") else 0,
        }
        command = [sys.executable, "-m", "sublet.models.engines.llamacpp_child", json.dumps(config)]
        try:
            with self._log.open("wb") as log:
                self._child = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise EngineStartError(f"the engine of {self._entry.name} did not start: {error.strerror}") from error

    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def health(self) -> bool:
        try:
            return ask(self.endpoint, "GET", "/health")[0] == 200
        except OSError:
            return False

    def last_words(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS_BYTES_MAX))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        code = self._child.poll() if self._child else None
        ending = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"{ending}: {lines[-1][:300]}" if lines else ending

    def count_tokens(self, messages: list[dict[str, Any]]) -> int:
        try:
            prompt = self._ask_json("/apply-template", {"messages": messages})["prompt"]
            tokens = self._ask_json("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})[
                "tokens"
            ]
        except (OSError, KeyError, ValueError) as error:
            raise EngineStartError(f"the engine of {self._entry.name} could not count the tokens ({error})") from error

        return len(tokens)

    def metrics(self) -> EngineMetrics:
        status, body = ask(self.endpoint, "GET", "/metrics")
        if status != 200:
            raise OSError(f"the engine's metrics answered {status}")
        found: dict[str, int] = {}
        for line in body.decode(errors="replace").splitlines():
            name, _, value = line.partition(" ")
            if name in _COUNTERS:
                found[_COUNTERS[name]] = int(float(value))
        return EngineMetrics(**found)

    def stop(self, grace_s: float = 2.0) -> None:
        child = self._child
        if child is None:
            return
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._socket.unlink(missing_ok=True)

    def _ask_json(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        status, answer = ask(self.endpoint, "POST", path, body, timeout_s=10.0)
        if status != 200:
            raise OSError(f"{path} answered {status}")
        document: dict[str, Any] = json.loads(answer)
        return document


def make(entry: CatalogEntry, replica_id: str, run_dir: Path, threads: int) -> LlamaCppEngine:
    """The engine of a replica of `entry`."""
    return LlamaCppEngine(entry, replica_id, run_dir, threads)
