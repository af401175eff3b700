"""What the gateway counts: Prometheus metrics with bounded labels, and figures per model and minute for the console."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from sublet.gateway.model import METER_INPUT, METER_INPUT_CACHED, METER_OUTPUT, ModelRoute
from sublet.gateway.refusals import InsufficientQuotaError
from sublet.values.clock import from_micros

if TYPE_CHECKING:
    from sublet.gateway.requests.reply import Reply

_TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOTAL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
# Upper edges of a geometric histogram, 1 ms to about 17 minutes: what the minute figures take their percentiles from.
_EDGES_S = tuple(0.001 * 1.25**step for step in range(62))
_MINUTE_US = 60_000_000
_GAUGES = {
    "in_flight": "Requests under way",
    "waiting": "Requests that wait for a slot",
    "holding": "Requests whose worst case is being held on a budget",
    "receiving_bytes": "Bytes of bodies being received, and of large ones under way",
    "connections": "Connections of clients",
    "unauthenticated": "Connections on which no valid key has arrived",
    "snapshot_age_seconds": "Age of what is known of keys and models",
    "journal_failed": "1 while usage can't be recorded",
}


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
    changed: bool = True
    ttft_counts: list[int] = field(default_factory=lambda: [0] * (len(_EDGES_S) + 1))
    queue_counts: list[int] = field(default_factory=lambda: [0] * (len(_EDGES_S) + 1))

    def ttft_ms(self, share: float) -> int:
        return _percentile_ms(self.ttft_counts, share)

    def queue_ms(self, share: float) -> int:
        return _percentile_ms(self.queue_counts, share)


class Ended(Protocol):
    """A request that is over, as far as the figures tell of it. `started_at` and `first_at` are on the gateway's monotonic clock."""

    model: ModelRoute
    reply: Reply
    started_us: int
    started_at: float
    first_at: float
    queue_s: float


class Metrics:
    """Plain counters, which cost little on the hot path, and become Prometheus metrics when somebody asks.

    For the event loop's thread; `take_minutes` may be called by another.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.engine_errors: Counter[tuple[str, str, str]] = Counter()
        """Requests that engines failed, by model, replica and kind."""
        self.evicted: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self._models: dict[str, ModelTotals] = {}
        self._minutes: dict[tuple[int, str], MinuteStats] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def ended(self, exchange: Ended, status: int, now: float) -> None:
        """Count a request that ended. Models come from the catalog, so there are few of them."""
        if status == InsufficientQuotaError.status:
            # It was refused before any work, and is counted as the others that are.
            return
        name = exchange.model.name
        totals = self._models.get(name)
        if totals is None:
            totals = self._models[name] = ModelTotals()
        total_s = now - exchange.started_at
        first_s = exchange.first_at - exchange.started_at if exchange.first_at else 0.0
        meter = exchange.reply.meter
        failed = status >= 500
        if status == 200:
            totals.ok += 1
        elif failed:
            totals.failed += 1
        else:
            totals.gone += 1
        totals.input += meter.input - meter.input_cached
        totals.input_cached += meter.input_cached
        totals.output += meter.output
        totals.total.observe(total_s)
        totals.queue.observe(exchange.queue_s)
        at = exchange.started_us + int(total_s * 1e6)
        minute_us = at - at % _MINUTE_US
        minute = self._minutes.get((minute_us, name))
        if minute is None:
            minute = self._minutes[minute_us, name] = MinuteStats(from_micros(minute_us), name)
        minute.changed = True
        minute.requests += 1
        minute.failed += failed
        minute.tokens_input += meter.input
        minute.tokens_input_cached += meter.input_cached
        minute.tokens_output += meter.output
        minute.busy_ms += int((total_s - exchange.queue_s) * 1000)
        minute.queue_counts[bisect_left(_EDGES_S, exchange.queue_s)] += 1
        if first_s:
            totals.first.observe(first_s)
            minute.ttft_counts[bisect_left(_EDGES_S, first_s)] += 1

    def take_minutes(self, now_us: int) -> list[MinuteStats]:
        """The minutes that changed since the last call, the present one included; those that ended come a last time."""
        found = []
        for key in list(self._minutes):
            minute = self._minutes[key]
            if key[0] + _MINUTE_US <= now_us:
                del self._minutes[key]
            if minute.changed:
                minute.changed = False
                found.append(minute)
        return found

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client."""
        yield _counters("requests", "Requests ended, by outcome", ["model", "outcome"], self._outcomes())
        refused = [([code], count) for code, count in self.refused.items()]
        yield _counters("refused", "Requests refused before any work, by code", ["code"], refused)
        evicted = [([kind], count) for kind, count in self.evicted.items()]
        yield _counters("connections_evicted", "Connections closed to make room for others", ["kind"], evicted)
        yield _counters("tokens", "Tokens metered", ["model", "meter"], self._tokens())
        failures = [(list(key), count) for key, count in self.engine_errors.items()]
        yield _counters("engine_failures", "Requests that engines failed", ["model", "replica", "kind"], failures)
        yield self._histogram("time_to_first_token_seconds", "From request to first event", lambda item: item.first)
        yield self._histogram("request_seconds", "From request to its end", lambda item: item.total)
        yield self._histogram("queue_seconds", "Time waited for a slot", lambda item: item.queue)
        for name, value in self.gauges.items():
            yield GaugeMetricFamily(f"sublet_gateway_{name}", _GAUGES[name], value)

    def _outcomes(self) -> list[tuple[list[str], float]]:
        return [
            ([model, outcome], count)
            for model, item in self._models.items()
            for outcome, count in (("ok", item.ok), ("client_gone", item.gone), ("failed", item.failed))
        ]

    def _tokens(self) -> list[tuple[list[str], float]]:
        return [
            ([model, meter], count)
            for model, item in self._models.items()
            for meter, count in (
                (METER_INPUT, item.input),
                (METER_INPUT_CACHED, item.input_cached),
                (METER_OUTPUT, item.output),
            )
        ]

    def _histogram(self, name: str, text: str, pick: Callable[[ModelTotals], Histogram]) -> Metric:
        family = HistogramMetricFamily(f"sublet_gateway_{name}", text, labels=["model"])
        for model, item in self._models.items():
            found = pick(item)
            family.add_metric([model], buckets=found.cumulated(), sum_value=found.sum_s)
        return family


class Histogram:
    """Counts by bucket."""

    __slots__ = ("counts", "edges_s", "sum_s")

    def __init__(self, edges_s: tuple[float, ...]) -> None:
        self.edges_s = edges_s
        self.counts = [0] * (len(edges_s) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.edges_s, seconds)] += 1
        self.sum_s += seconds

    def cumulated(self) -> list[tuple[str, float]]:
        """As Prometheus has it: for each upper edge, how many are not above it."""
        edges = [*(str(float(edge)) for edge in self.edges_s), "+Inf"]
        return list(zip(edges, map(float, accumulate(self.counts)), strict=True))


class ModelTotals:
    """One model's counters since the process began."""

    __slots__ = ("failed", "first", "gone", "input", "input_cached", "ok", "output", "queue", "total")

    def __init__(self) -> None:
        self.ok = self.gone = self.failed = 0
        self.input = self.input_cached = self.output = 0
        self.first = Histogram(_TTFT_BUCKETS)
        self.total = Histogram(_TOTAL_BUCKETS)
        self.queue = Histogram(_TTFT_BUCKETS)


def _counters(name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]) -> Metric:
    family = CounterMetricFamily(f"sublet_gateway_{name}", text, labels=labels)
    for found, value in values:
        family.add_metric(found, value)
    return family


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
