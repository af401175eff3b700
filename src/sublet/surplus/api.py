"""Routes of the surplus: what is on sale, and why the rest is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from sublet.accounts.model import Require
from sublet.store.paging import PageRequest, page_of, page_request
from sublet.surplus.record.service import DAYS_DEFAULT, DAYS_MAX, Record
from sublet.surplus.rule.peaks import HORIZONS_DEFAULT_S, HORIZONS_MAX, QUANTILES_DEFAULT, QUANTILES_MAX, peaks_of
from sublet.surplus.service import Surplus
from sublet.values.errors import NotFoundError
from sublet.values.moments import Moment
from sublet.values.service_classes import WINDOW_S_MAX
from sublet.values.windows import Window


def router(surplus: Surplus, require: Require, clock_now: Callable[[], Any]) -> APIRouter:
    """`/v1/surplus`, for the operator: it shows the owner's own demand."""
    routes = APIRouter(tags=["surplus"])
    operate = Depends(require("surplus:read"))

    @routes.get("/v1/surplus/{pool_id}", dependencies=[operate])
    def ladder(pool_id: str) -> dict[str, Any]:
        """Every class and window that the pool has on sale now, and the reason for each accelerator withheld."""
        return surplus.ladder(pool_id).as_dict()

    @routes.get("/v1/surplus/{pool_id}/{class_name}", dependencies=[operate])
    def sellable(
        pool_id: str,
        class_name: str,
        window_s: Annotated[int, Query(ge=1, le=WINDOW_S_MAX)] = 3600,
        start: Moment | None = None,
    ) -> dict[str, Any]:
        """What one class could sell over `window_s` seconds from `start` (now by default)."""
        window = Window.starting(start or clock_now(), window_s)
        return surplus.sellable(pool_id, class_name, window).as_dict()

    @routes.get("/v1/demand/{pool_id}/forecast", dependencies=[Depends(require("demand:read"))])
    def forecast(
        pool_id: str,
        horizon_s: Annotated[list[int] | None, Query(max_length=HORIZONS_MAX)] = None,
        quantile: Annotated[list[float] | None, Query(max_length=QUANTILES_MAX)] = None,
    ) -> dict[str, Any]:
        """Quantiles of the highest demand within each horizon, and how often such forecasts held."""
        horizons, quantiles = horizon_s or HORIZONS_DEFAULT_S, quantile or QUANTILES_DEFAULT
        return peaks_of(surplus.view(pool_id), horizons, quantiles).as_dict()

    return routes


def record_router(record: Record, pools: Callable[[], Mapping[str, str]], require: Require) -> APIRouter:
    """`/v1/record`, for the operator. `pools` gives the names of the pools by id."""
    routes = APIRouter(tags=["surplus"])

    @routes.get("/v1/record", dependencies=[Depends(require("surplus:read"))])
    def list_record(
        pool: Annotated[str | None, Query(max_length=60)] = None,
        days: Annotated[int, Query(ge=1, le=DAYS_MAX)] = DAYS_DEFAULT,
        page: PageRequest = Depends(page_request),
    ) -> dict[str, Any]:
        """What was promised against what happened, per pool, class and window: of leases, and beside them of the shadow. The
        pools are in the order of their ids."""
        found = {pool_id: name for pool_id, name in pools().items() if pool in (None, pool_id, name)}
        if pool is not None and not found:
            raise NotFoundError(f"there is no pool {pool!r}; `sublet pool ls` lists them")
        shown = page_of("record", found.items(), lambda item: item[0], page)
        return shown.map(lambda item: record.of(*item, days).as_dict()).as_dict("pools")

    return routes
