"""The gateway's SQL: the figures of each minute and model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, delete, func, insert, select, type_coerce

from sublet.gateway.metering.metrics import MinuteStats
from sublet.store.tables.gateway import model_stats
from sublet.values.clock import from_micros

HOUR_US = 3_600_000_000


def save_minutes(connection: Connection, run: str, minutes: list[MinuteStats]) -> None:
    """Write a run's figures; the same minute again replaces what was there."""
    for stats in minutes:
        key = (model_stats.c.run == run) & (model_stats.c.minute == stats.minute) & (model_stats.c.model == stats.model)
        connection.execute(delete(model_stats).where(key))
        connection.execute(
            insert(model_stats).values(
                run=run,
                minute=stats.minute,
                model=stats.model,
                requests=stats.requests,
                failed=stats.failed,
                tokens_input=stats.tokens_input,
                tokens_input_cached=stats.tokens_input_cached,
                tokens_output=stats.tokens_output,
                ttft_ms_p50=stats.ttft_ms(0.5),
                ttft_ms_p95=stats.ttft_ms(0.95),
                queue_ms_p95=stats.queue_ms(0.95),
                busy_ms=stats.busy_ms,
            )
        )


def drop_minutes(connection: Connection, before: datetime) -> int:
    """Forget the figures of minutes before `before`; returns how many rows went."""
    return connection.execute(delete(model_stats).where(model_stats.c.minute < before)).rowcount


def recent_minutes(connection: Connection, since: datetime) -> list[dict[str, Any]]:
    """The minute figures since `since`, oldest first, as the console draws them."""
    rows = connection.execute(
        select(model_stats).where(model_stats.c.minute >= since).order_by(model_stats.c.minute, model_stats.c.model)
    )
    return [dict(row._mapping) for row in rows]


@dataclass(frozen=True, slots=True)
class ModelHour:
    """What gateways served of a model in one hour; `busy_s` is what its requests took in replicas, added up."""

    model: str
    hour: datetime
    requests: int
    tokens_output: int
    busy_s: float


def model_hours(connection: Connection, since: datetime, until: datetime) -> list[ModelHour]:
    """The figures of all gateways by model and hour in `[since, until)`."""
    columns = model_stats.c
    hour = type_coerce(columns.minute, BigInteger) // HOUR_US
    sums = (func.sum(columns.requests), func.sum(columns.tokens_output), func.sum(columns.busy_ms))
    rows = connection.execute(
        select(columns.model, hour.label("hour"), *sums)
        .where(columns.minute >= since, columns.minute < until)
        .group_by(columns.model, hour)
        .order_by(hour, columns.model)
    )
    return [
        ModelHour(row[0], from_micros(int(row[1]) * HOUR_US), int(row[2]), int(row[3]), int(row[4]) / 1000)
        for row in rows
    ]
