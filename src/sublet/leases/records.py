"""The record of what leases and accelerators went through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sublet.values.clock import format_time
from sublet.values.windows import Window


def image_as_json(image: tuple[str, str, str] | None) -> dict[str, str] | None:
    """The image that a quote or a lease names."""
    return dict(zip(("id", "name", "digest"), image, strict=True)) if image is not None else None


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state of a lease or an accelerator: who did it, when, and why."""

    subject_id: str
    number: int
    before: str | None
    after: str
    at: datetime
    actor: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "from": self.before,
            "to": self.after,
            "at": format_time(self.at),
            "actor": self.actor,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class SoldWindow:
    """`accelerators` of a class that are sold or held over `window`, of a block where `block_id` names one: what the surplus has
    to know of the book."""

    accelerators: int
    class_name: str
    window: Window
    block_id: str | None = None
