"""The child process around llama.cpp's server: one model and one Unix socket. It ends with its parent.

Run as `python -m sublet.models.engines.llamacpp_child CONFIG_JSON`. It writes one line of JSON when it is ready, and exits as
soon as its standard input ends, so that it can't outlive the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> int:
    """Serve until standard input ends. Returns 1 if the engine does not start."""
    config: dict[str, Any] = json.loads(arguments[0])
    # Ctrl-C at the terminal reaches the whole group; the host decides when its engines end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(config["socket"],), daemon=True).start()
    import xllamacpp

    try:
        server = xllamacpp.Server(parameters(config, xllamacpp.CommonParams()))
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({"listening": server.listening_address}) + "\n")
    sys.stdout.flush()
    threading.Event().wait()
    return 0


def parameters(config: dict[str, Any], params: Any) -> Any:
    """The settings of llama.cpp; see docs/models.md for the reasons."""
    params.model.path = config["weights"]
    params.model_alias = {config["model"]}
    params.n_parallel = config["slots"]
    # Not unified: each slot has its own part of the cache, so that one tenant's long prompt can't starve another's.
    params.kv_unified = False
    params.n_ctx = config["slots"] * config["context_tokens"]
    params.cache_ram_mib = config["cache_ram_mib"]
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["threads"]
    params.n_gpu_layers = config["gpu_layers"]
    params.hostnames = [config["socket"]]
    params.endpoint_metrics = True
    # /slots shows the prompts of every tenant that uses the engine.
    params.endpoint_slots = False
    params.ui = False
    params.cors_origins = "http://localhost"
    params.verbosity = 1
    params.offline = True
    return params


def _end_with_parent(socket_path: str) -> None:
    # The raw descriptor: a buffered read would hold the GIL's lock of sys.stdin at exit.
    while True:
        try:
            if not os.read(0, 4096):
                break
        except OSError:
            break
    with contextlib.suppress(OSError):
        Path(socket_path).unlink()
    # Not sys.exit: llama.cpp's destructors crash with a stream in flight.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
