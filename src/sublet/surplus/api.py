"""Routes of the surplus: what is on sale, and why the rest is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from sublet.surplus.model import WINDOW_S_MAX
from sublet.surplus.service import Surplus
from sublet.values.windows import Window

Require = Callable[[str], Callable[..., Any]]
"""Makes a FastAPI dependency that refuses keys without the scope."""


def router(surplus: Surplus, require: Require, clock_now: Callable[[], Any]) -> APIRouter:
    """`/v1/surplus`, for the operator: it shows the owner's own demand."""
    routes = APIRouter(tags=["surplus"])
    operate = Depends(require("operate"))

    @routes.get("/v1/surplus/{pool_id}", dependencies=[operate])
    def ladder(pool_id: str) -> dict[str, Any]:
        """Every class and window that the pool has on sale now, and the reason for each accelerator withheld."""
        return surplus.ladder(pool_id).as_dict()

    @routes.get("/v1/surplus/{pool_id}/{class_name}", dependencies=[operate])
    def sellable(
        pool_id: str,
        class_name: str,
        window_s: Annotated[int, Query(ge=1, le=WINDOW_S_MAX)] = 3600,
        start: AwareDatetime | None = None,
    ) -> dict[str, Any]:
        """What one class could sell over `window_s` seconds from `start` (now by default)."""
        window = Window.starting(start or clock_now(), window_s)
        return surplus.sellable(pool_id, class_name, window).as_dict()

    return routes
