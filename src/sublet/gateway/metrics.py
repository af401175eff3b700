"""What the gateway counts: Prometheus metrics with bounded labels, and figures per model and minute for the console."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sublet.values.clock import from_micros

if TYPE_CHECKING:
    from sublet.gateway.exchange import Exchange

_TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOTAL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
# Upper edges of a geometric histogram, 1 ms to about 17 minutes: what the minute figures take their percentiles from.
_EDGES_S = tuple(0.001 * 1.25**step for step in range(62))
_MINUTE_US = 60_000_000


@dataclass(slots=True)
class MinuteStats:
    """One model's figures of one minute."""

    minute: datetime
    model: str
    requests: int = 0
    failed: int = 0
    tokens_input: int = 0
    tokens_input_cached: int = 0
    tokens_output: int = 0
    busy_ms: int = 0
    ttft_counts: list[int] = field(default_factory=lambda: [0] * (len(_EDGES_S) + 1))
    queue_counts: list[int] = field(default_factory=lambda: [0] * (len(_EDGES_S) + 1))

    def ttft_ms(self, share: float) -> int:
        return _percentile_ms(self.ttft_counts, share)

    def queue_ms(self, share: float) -> int:
        return _percentile_ms(self.queue_counts, share)


class Metrics:
    """For the event loop's thread; `take_minutes` may be called by another."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "sublet_gateway_requests", "Requests ended, by outcome", ["model", "outcome"], registry=registry
        )
        self.refused = Counter(
            "sublet_gateway_refused", "Requests refused before any work, by code", ["code"], registry=registry
        )
        self.tokens = Counter("sublet_gateway_tokens", "Tokens metered", ["model", "meter"], registry=registry)
        self.first = Histogram(
            "sublet_gateway_time_to_first_token_seconds",
            "From request to first event",
            ["model"],
            buckets=_TTFT_BUCKETS,
            registry=registry,
        )
        self.total = Histogram(
            "sublet_gateway_request_seconds",
            "From request to its end",
            ["model"],
            buckets=_TOTAL_BUCKETS,
            registry=registry,
        )
        self.queue = Histogram(
            "sublet_gateway_queue_seconds",
            "Time waited for a slot",
            ["model"],
            buckets=_TTFT_BUCKETS,
            registry=registry,
        )
        self.engine_failures = Counter(
            "sublet_gateway_engine_failures", "Connections that engines broke", ["model"], registry=registry
        )
        self.in_flight = Gauge("sublet_gateway_in_flight", "Requests under way", registry=registry)
        self.waiting = Gauge("sublet_gateway_waiting", "Requests that wait for a slot", registry=registry)
        self.receiving = Gauge("sublet_gateway_receiving_bytes", "Bytes of bodies being received", registry=registry)
        self.snapshot_age = Gauge(
            "sublet_gateway_snapshot_age_seconds", "Age of what is known of keys and models", registry=registry
        )
        self.journal_failed = Gauge(
            "sublet_gateway_journal_failed", "1 while usage can't be recorded", registry=registry
        )
        self._models: dict[str, _ModelSeries] = {}
        self._minutes: dict[tuple[int, str], MinuteStats] = {}

    def ended(self, exchange: Exchange, status: int, now: float) -> None:
        """Count a request that ended."""
        name = exchange.model.name
        series = self._models.get(name)
        if series is None:
            series = self._models[name] = _ModelSeries(self, name)
        total_s = now - exchange.started_at
        first_s = exchange.first_at - exchange.started_at if exchange.first_at else 0.0
        meter = exchange.meter
        failed = status >= 500
        (series.failed if failed else series.gone if status == 499 else series.ok).inc()
        series.total.observe(total_s)
        series.queue.observe(exchange.queue_s)
        if first_s:
            series.first.observe(first_s)
        if meter.input or meter.output:
            series.input.inc(meter.input - meter.input_cached)
            series.cached.inc(meter.input_cached)
            series.output.inc(meter.output)
        self._count_minute(exchange, name, failed, first_s, total_s)

    def take_minutes(self, before_us: int) -> list[MinuteStats]:
        """The minutes that ended before `before_us`, once."""
        due = [key for key in list(self._minutes) if key[0] + _MINUTE_US <= before_us]
        return [self._minutes.pop(key) for key in due]

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    def _count_minute(self, exchange: Exchange, name: str, failed: bool, first_s: float, total_s: float) -> None:
        at = exchange.started_us + int(total_s * 1e6)
        key = (at - at % _MINUTE_US, name)
        minute = self._minutes.get(key)
        if minute is None:
            minute = self._minutes[key] = MinuteStats(from_micros(key[0]), name)
        minute.requests += 1
        minute.failed += failed
        minute.tokens_input += exchange.meter.input
        minute.tokens_input_cached += exchange.meter.input_cached
        minute.tokens_output += exchange.meter.output
        minute.busy_ms += int((total_s - exchange.queue_s) * 1000)
        minute.queue_counts[bisect_left(_EDGES_S, exchange.queue_s)] += 1
        if first_s:
            minute.ttft_counts[bisect_left(_EDGES_S, first_s)] += 1


class _ModelSeries:
    """One model's children of the metrics, looked up once. Models come from the catalogue, so there are few."""

    __slots__ = ("cached", "failed", "first", "gone", "input", "ok", "output", "queue", "total")

    def __init__(self, metrics: Metrics, name: str) -> None:
        self.ok = metrics.requests.labels(name, "ok")
        self.gone = metrics.requests.labels(name, "client_gone")
        self.failed = metrics.requests.labels(name, "failed")
        self.input = metrics.tokens.labels(name, "tokens.input")
        self.cached = metrics.tokens.labels(name, "tokens.input_cached")
        self.output = metrics.tokens.labels(name, "tokens.output")
        self.first = metrics.first.labels(name)
        self.total = metrics.total.labels(name)
        self.queue = metrics.queue.labels(name)


def _percentile_ms(counts: list[int], share: float) -> int:
    """The upper edge of the bucket that holds the percentile, 0 where nothing was counted."""
    wanted = share * sum(counts)
    if not wanted:
        return 0
    seen = 0
    for index, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return round(_EDGES_S[min(index, len(_EDGES_S) - 1)] * 1000)
    return round(_EDGES_S[-1] * 1000)
