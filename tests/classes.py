"""Classes of service for tests that need others than the shipped ones."""

from __future__ import annotations

from typing import Any

from sublet.values.service_classes import ServiceClass, TakeBack


def a_class(name: str, notice_s: int | None, broken_per_1000_max: float, **others: Any) -> ServiceClass:
    """A class whose place follows from its notice: the longer, the stricter."""
    take_back = TakeBack.NEVER if notice_s is None else TakeBack.NOTICE
    strictness = 1000 if notice_s is None else 1 + notice_s
    return ServiceClass(name, take_back, notice_s, broken_per_1000_max, others.pop("strictness", strictness), **others)
