"""Managed models as they cross the API."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.wire import LINE, Whole, body

REPLICAS_MAX = 64

Replicas = Annotated[Whole, Interval(ge=0, le=REPLICAS_MAX)]


@body
class NewDeployment:
    """A model to offer on a pool."""

    model: Annotated[str, MinLen(1), MaxLen(80), LINE]
    pool_id: Annotated[str, MinLen(1), MaxLen(60), LINE]
    floor: Replicas = 0
    replicas_max: Replicas = REPLICAS_MAX


@body
class Scale:
    """How many replicas; null for automatic."""

    replicas: Replicas | None = None
