"""A check: a name, the promise that it is about, and the function that tries it on a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Stage = TypeVar("Stage")


class NonconformingError(AssertionError):
    """An implementation breaks a promise of its interface; the message says which."""


@dataclass(frozen=True, slots=True)
class Check(Generic[Stage]):
    """One promise. Each call needs a fresh stage. Raises NonconformingError."""

    name: str
    promise: str
    run: Callable[[Stage], None]

    def __call__(self, stage: Stage) -> None:
        self.run(stage)

    def __str__(self) -> str:
        return self.name


class Checks(Generic[Stage]):
    """Collects the checks of a module: a decorator for its functions, whose docstrings are the promises."""

    def __init__(self) -> None:
        self.all: list[Check[Stage]] = []

    def __call__(self, run: Callable[[Stage], None]) -> Callable[[Stage], None]:
        promise = " ".join((run.__doc__ or "").split())
        self.all.append(Check(run.__name__, promise, run))
        return run


def expect(holds: object, sentence: str) -> None:
    """Raises NonconformingError with `sentence` unless `holds`."""
    if not holds:
        raise NonconformingError(sentence)


def refuses(error: type[Exception], call: Callable[[], object], sentence: str) -> None:
    """Raises NonconformingError unless `call` raises `error`."""
    try:
        call()
    except error:
        return
    raise NonconformingError(sentence)
