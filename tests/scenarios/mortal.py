"""`serve control` in a process that kills itself once, at the step of a plan that the file named by MORTAL_AIM says.

The file holds `KIND MOMENT`: `before` the step is begun, `inside` it, right after its first change of the database or of a
backend is made, or `after` it. The process that reaches that step first takes the file away and dies as by kill -9.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sublet.cli import main
from sublet.leases.backends.simulated import SimulatedBackend
from sublet.leases.lifecycle.executor import Executor
from sublet.store import Store

AIM = Path(os.environ["MORTAL_AIM"])
CHANGES = ("start", "stop", "pause", "notice", "withdraw_notice", "extend", "forget")
doing = threading.local()


def die(kind: str, moment: str) -> None:
    try:
        if AIM.read_text() != f"{kind} {moment}":
            return
        AIM.rename(AIM.with_suffix(f".{os.getpid()}"))
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def mortal(attempt: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Executor, step: Any, may: Callable[[Any], bool]) -> Any:
        def asked(about: Any) -> bool:
            allowed = may(about)
            doing.kind = step.kind if allowed else ""
            if allowed:
                die(step.kind, "before")
            return allowed

        try:
            failure = attempt(self, step, asked)
            if failure is None:
                die(step.kind, "after")
            return failure
        finally:
            doing.kind = ""

    return wrapped


def changing(change: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        changed = change(*arguments, **named)
        if kind := getattr(doing, "kind", ""):
            die(kind, "inside")
        return changed

    return wrapped


Executor._attempt = mortal(Executor._attempt)  # type: ignore[method-assign]
Store.write = changing(Store.write)  # type: ignore[method-assign]
for name in CHANGES:
    setattr(SimulatedBackend, name, changing(getattr(SimulatedBackend, name)))
sys.argv = ["sublet", "serve", "control"]
main()
