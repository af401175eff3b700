"""Wire types of the closing checklist."""

from __future__ import annotations

from sublet.values.wire import answer


@answer
class ChecklistStep:
    """A step of closing a month; what is missing is empty once it is done."""

    name: str
    done: bool
    missing: str


@answer
class Checklist:
    """What is left to do before a month can be handed to accounting; `ready` if nothing is."""

    period: str
    ready: bool
    steps: list[ChecklistStep]
