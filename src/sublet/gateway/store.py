"""The gateway's SQL: the figures of each minute and model."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from sublet.gateway.metering.metrics import MinuteStats
from sublet.store.tables.gateway import model_stats


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
