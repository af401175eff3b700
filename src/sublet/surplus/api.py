"""Routes of the surplus: what is on sale, and why the rest is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Require
from sublet.demand.model import Series
from sublet.demand.service import Demand
from sublet.store.paging import PageRequest, page_of, page_request
from sublet.surplus import wire
from sublet.surplus.backtest.trial import WINDOWS_MAX, trial, tried
from sublet.surplus.record.service import DAYS_DEFAULT, DAYS_MAX, Record
from sublet.surplus.rule.peaks import HORIZONS_DEFAULT_S, HORIZONS_MAX, QUANTILES_DEFAULT, QUANTILES_MAX, peaks_of
from sublet.surplus.service import Surplus
from sublet.values.errors import InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.moments import Moment
from sublet.values.money import Money
from sublet.values.service_classes import LONG_SHARE, WINDOW_S_MAX
from sublet.values.windows import Window
from sublet.values.wire import as_answer

WINDOWS_H = (1, 4, 12, 24)


def router(surplus: Surplus, require: Require, clock_now: Callable[[], Any]) -> APIRouter:
    """`/v1/surplus`, for the operator: it shows the owner's own demand."""
    routes = APIRouter(tags=["surplus"], route_class=AnswerRoute)
    operate = Depends(require("surplus:read"))

    @routes.get("/v1/surplus/{pool_id}", dependencies=[operate])
    def ladder(pool_id: str) -> wire.SurplusLadder:
        """Show how many accelerators each class can sell for each window now, and why the rest is withheld. `orders` shows
        how many could be sold for hours of service by a deadline."""
        orders = [item.as_dict() for item in surplus.orders_on_sale(pool_id)]
        return as_answer(wire.SurplusLadder, {**surplus.ladder(pool_id).as_dict(), "orders": orders})

    @routes.get("/v1/surplus/{pool_id}/{class_name}", dependencies=[operate])
    def sellable(
        pool_id: str,
        class_name: str,
        window_s: Annotated[int, Query(ge=1, le=WINDOW_S_MAX)] = 3600,
        start: Moment | None = None,
    ) -> wire.Offer:
        """Show how many accelerators one class can sell for `window_s` seconds from `start` (now by default)."""
        window = Window.starting(start or clock_now(), window_s)
        return as_answer(wire.Offer, surplus.sellable(pool_id, class_name, window).as_dict())

    @routes.get("/v1/demand/{pool_id}/forecast", dependencies=[Depends(require("demand:read"))])
    def forecast(
        pool_id: str,
        horizon_s: Annotated[list[int] | None, Query(max_length=HORIZONS_MAX)] = None,
        quantile: Annotated[list[float] | None, Query(max_length=QUANTILES_MAX)] = None,
    ) -> wire.DemandForecast:
        """Forecast quantiles of the peak demand within each horizon, and report how often such forecasts were right."""
        horizons, quantiles = horizon_s or HORIZONS_DEFAULT_S, quantile or QUANTILES_DEFAULT
        return as_answer(wire.DemandForecast, peaks_of(surplus.view(pool_id), horizons, quantiles).as_dict())

    return routes


def record_router(record: Record, pools: Callable[[], Mapping[str, str]], require: Require) -> APIRouter:
    """`/v1/record`, for the operator. `pools` gives the names of the pools by id."""
    routes = APIRouter(tags=["surplus"], route_class=AnswerRoute)

    @routes.get("/v1/record", dependencies=[Depends(require("surplus:read"))])
    def list_record(
        pool: Annotated[str | None, Query(max_length=60)] = None,
        days: Annotated[int, Query(ge=1, le=DAYS_MAX)] = DAYS_DEFAULT,
        page: PageRequest = Depends(page_request),
    ) -> wire.RecordList:
        """Compare what was promised with what happened, by pool, class and window, for leases and for the shadow. Pools are
        ordered by id."""
        found = {pool_id: name for pool_id, name in pools().items() if pool in (None, pool_id, name)}
        if pool is not None and not found:
            raise NotFoundError(f"there is no pool {pool!r}; `sublet pool ls` lists them")
        shown = page_of("record", found.items(), lambda item: item[0], page)
        return as_answer(wire.RecordList, shown.map(lambda item: record.of(*item, days).as_dict()).as_dict("pools"))

    return routes


@dataclass(frozen=True, slots=True)
class TriedPool:
    """A pool as a shadow trial sees it; `kept` accelerators are its reserve."""

    id: str
    name: str
    kept: int


def trial_router(
    demand: Demand, pools: Callable[[], Sequence[TriedPool]], require: Require, clock_now: Callable[[], datetime]
) -> APIRouter:
    """`/v1/shadow`, for the operator: what selling would have come to on the demand that was recorded."""
    routes, trying = APIRouter(tags=["surplus"], route_class=AnswerRoute), Lock()

    @routes.get("/v1/shadow", dependencies=[Depends(require("surplus:read"))])
    def shadow(
        pool: Annotated[str | None, Query(max_length=60)] = None,
        window_h: Annotated[list[int] | None, Query(max_length=WINDOWS_MAX)] = None,
        broken_per_1000: float = 10.0,
        long_share: float = LONG_SHARE,
        price: Annotated[str, Query(max_length=40)] = "1.00",
        currency: Annotated[str, Query(max_length=3)] = "USD",
        warmup_days: Annotated[int | None, Query(ge=1, le=3660)] = None,
    ) -> wire.ShadowTrials:
        """Replay the recorded demand as if capacity had been sold, and report what would have been sold, earned and reclaimed."""
        asked = trial(window_h or WINDOWS_H, broken_per_1000, long_share, Money.of(price, currency), warmup_days)
        chosen = [item for item in pools() if pool in (None, item.id, item.name)]
        if pool is not None and not chosen:
            raise NotFoundError(f"there is no pool {pool!r}; `sublet pool ls` lists them")
        if not trying.acquire(blocking=False):
            raise LimitExceededError(
                "another shadow record is being computed; try again in a few seconds", retry_after_s=5
            )
        try:
            found = [series for item in chosen if len(series := _over_reserve(demand, item, clock_now()))]
            if not found:
                raise InvalidInputError(
                    "no demand has been recorded yet; import a CSV file with `sublet demand import`"
                )
            return as_answer(
                wire.ShadowTrials,
                tried(found, asked, {item.name: item.kept for item in chosen}, or_refuse=len(found) == 1),
            )
        finally:
            trying.release()

    return routes


def _over_reserve(demand: Demand, pool: TriedPool, now: datetime) -> Series:
    """The demand of a pool over what its reserve leaves of it. Of an hour that is not over nobody knows yet how much of it was
    needed."""
    until = now.replace(minute=0, second=0, microsecond=0)
    series = demand.history(pool.id, until - demand.kept, until)
    return replace(series, pool=pool.name, capacity=np.maximum(series.capacity - pool.kept, 0.0))
