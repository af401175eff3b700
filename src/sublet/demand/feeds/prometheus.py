"""Collects demand from Prometheus: one PromQL query per pool, over a range, into samples.

The format is that of Prometheus' HTTP interface, `/api/v1/query_range` (prometheus.io, "HTTP API").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx2

from sublet.config.pools import fixed_capacity
from sublet.demand.feeds.feed import FeedUnreachableError
from sublet.demand.model import Sample
from sublet.values.clock import as_utc
from sublet.values.errors import InvalidInputError, UnavailableError

BODY_BYTES_MAX = 32 * 1024 * 1024
POINTS_MAX = 11_000
TIMEOUT_S = 30.0
UNIX_TIME_MAX = 2**37

Fetch = Callable[[str, Mapping[str, str]], bytes]
"""Gets a URL with query parameters and returns the body; raises UnavailableError."""


class PrometheusError(UnavailableError):
    """Prometheus refused the query or returned an unreadable answer; try the query in Prometheus's own page first."""

    code = "prometheus"


class PrometheusUnreachableError(PrometheusError, FeedUnreachableError):
    """Prometheus does not answer; check its address, and that it is running."""

    code = "prometheus_unreachable"


@dataclass(frozen=True, slots=True)
class PoolQuery:
    """What to ask for one pool. `in_use` and `capacity` each give one number per time; `pending` may be left out.

    Capacity may be a plain number where no series tells it.
    """

    in_use: str
    capacity: str | float
    pending: str | None = None


def dcgm(hosts: str, accelerators: int, held: Collection[str] = (), threshold: float = 0.05) -> PoolQuery:
    """GPUs of the hosts (a regular expression) that were not seen idle, by DCGM's exporter and either host label.

    `DCGM_FI_PROF_GR_ENGINE_ACTIVE` is real use; `DCGM_FI_DEV_GPU_UTIL` would only say that some kernel ran. The
    exporter's host label is `hostname` since May 2026 and `Hostname` before. What does not report counts as used; where
    nothing reports at all there is no sample. `held` are the devices (`nvidia:K`) that Sublet's tenants hold: they are
    nobody's demand.
    """
    lent = "|".join(sorted({device.replace(":", "") for device in held}))
    others = f',device!~"{lent}"' if lent else ""
    metric = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
    idle = f'(({metric}{{hostname=~"{hosts}"{others}}} or {metric}{{Hostname=~"{hosts}"{others}}}) <= {threshold})'
    reports = f'({metric}{{hostname=~"{hosts}"}} or {metric}{{Hostname=~"{hosts}"}})'
    return PoolQuery(
        f"clamp_min({accelerators - len(held)} - (count({idle}) or 0 * count({reports})), 0)", float(accelerators)
    )


def slurm_exporter(partition: str, accelerators: int) -> PoolQuery:
    """GPUs of one partition by prometheus-slurm-exporter: allocated of the pool's; it does not tell who waits."""
    return PoolQuery(f'sum(slurm_gpus_alloc{{partition="{partition}"}}) or sum(slurm_gpus_alloc)', float(accelerators))


def kubernetes(nodes: str, namespaces_not: str = "sublet.*") -> PoolQuery:
    """GPUs requested by the owner's running and pending pods, by kube-state-metrics; Sublet's namespaces left out.

    Where the nodes don't report either there is no sample.
    """
    what = f'kube_pod_container_resource_requests{{resource="nvidia_com_gpu",namespace!~"{namespaces_not}"'
    capacity = f'sum(kube_node_status_allocatable{{resource="nvidia_com_gpu",node=~"{nodes}"}})'
    return PoolQuery(
        f'sum({what},node=~"{nodes}"}}) or 0 * {capacity}', capacity, f'sum({what},node=""}}) or 0 * {capacity}'
    )


def query_of(
    exporter: str, select: str, in_use: str, capacity: str, pending: str, accelerators: int, held: Collection[str] = ()
) -> PoolQuery:
    """The queries of a known `exporter` for what `select` names, each replaced by one that is written out.

    `in_use` may say `$held` for the number of accelerators that tenants hold. Raises InvalidInputError.
    """
    if any(sign in select for sign in '"\\\n'):
        raise InvalidInputError(f"select is {select!r}; it must not contain quotes or backslashes")
    if exporter == "dcgm":
        known = dcgm(select or ".*", accelerators, held)
    elif exporter == "slurm":
        known = slurm_exporter(select, accelerators)
    elif exporter == "kubernetes":
        known = kubernetes(select or ".*")
    elif in_use:
        known = PoolQuery("", float(accelerators))
    else:
        raise InvalidInputError("set an exporter (dcgm, slurm or kubernetes) or in_use")
    fixed = fixed_capacity(capacity) if capacity else None
    return PoolQuery(
        in_use.replace("$held", str(len(held))) or known.in_use,
        fixed if fixed is not None else capacity or known.capacity,
        pending or known.pending,
    )


@dataclass(frozen=True, slots=True)
class Numbers:
    """What Prometheus said of one pool, by Unix time; what is no number at or above 0 is left out."""

    in_use: Mapping[float, float]
    capacity: Mapping[float, float]
    pending: Mapping[float, float]

    def samples(self) -> list[Sample]:
        """One for each time at which demand and capacity are both known."""
        return [
            Sample(datetime.fromtimestamp(at, UTC), self.capacity[at], self.in_use[at], self.pending.get(at, 0.0))
            for at in sorted(self.in_use.keys() & self.capacity.keys())
        ]

    def lack(self) -> str:
        """Why there is no sample, in a few words; empty where there is one."""
        if not self.in_use:
            return "in_use gives no number at any time of it"
        if not self.capacity:
            return "capacity gives no number at any time of it"
        return "" if self.in_use.keys() & self.capacity.keys() else "in_use and capacity give numbers at other times"


class PrometheusCollector:
    """Asks one Prometheus for the samples of pools."""

    def __init__(self, url: str, fetch: Fetch | None = None, token: str = "") -> None:
        """`url` is Prometheus' own, such as http://127.0.0.1:9090; `token` goes into the Authorization header."""
        if not url.startswith(("http://", "https://")):
            raise InvalidInputError(f"{url!r} is not a Prometheus URL; use the form http://host:9090")
        self._url = url.rstrip("/")
        self._fetch = fetch or partial(_get, token)

    def samples(self, query: PoolQuery, since: datetime, until: datetime, step_s: int = 60) -> list[Sample]:
        """Samples of `[since, until]`, one each `step_s` where demand and capacity are both known.

        A time at which Prometheus has no value gives no sample: a gap, never a zero. Raises PrometheusError.
        """
        return self.numbers(query, since, until, step_s).samples()

    def numbers(self, query: PoolQuery, since: datetime, until: datetime, step_s: int = 60) -> Numbers:
        """What the samples of `[since, until]` are made of, and by which one sees why there are none. Raises PrometheusError."""
        if step_s < 1 or (until - since).total_seconds() / step_s > POINTS_MAX:
            raise InvalidInputError(
                f"a query can return at most {POINTS_MAX} points; use a longer step or a shorter time range"
            )
        in_use = self._range(query.in_use, since, until, step_s)
        pending = self._range(query.pending, since, until, step_s) if query.pending else {}
        if isinstance(query.capacity, str):
            capacity = self._range(query.capacity, since, until, step_s)
        else:
            capacity = dict.fromkeys(in_use, float(query.capacity))
        return Numbers(in_use, capacity, pending)

    def _range(self, promql: str, since: datetime, until: datetime, step_s: int) -> dict[float, float]:
        parameters = {
            "query": promql,
            "start": f"{as_utc(since).timestamp():.3f}",
            "end": f"{as_utc(until).timestamp():.3f}",
            "step": str(step_s),
        }
        return parse_range(self._fetch(f"{self._url}/api/v1/query_range", parameters), promql)


def parse_range(body: bytes, promql: str = "the query") -> dict[float, float]:
    """Values by Unix time of a range query's answer. Raises PrometheusError unless it holds one series at most."""
    try:
        told: Any = json.loads(body)
    except ValueError as error:
        raise PrometheusError(f"Prometheus did not return JSON for {promql!r}") from error
    if not isinstance(told, dict) or told.get("status") != "success":
        why = told.get("error", "no reason was given") if isinstance(told, dict) else "no reason was given"
        raise PrometheusError(f"Prometheus refused {promql!r}: {why}")
    data = told.get("data")
    series = data.get("result", []) if isinstance(data, dict) else []
    if not isinstance(data, dict) or data.get("resultType") != "matrix" or not isinstance(series, list):
        raise PrometheusError(f"{promql!r} does not return an instant vector of numbers")
    if len(series) > 1:
        raise PrometheusError(f"{promql!r} returns {len(series)} series; wrap it in sum(…) to get one number per pool")
    found: dict[float, float] = {}
    try:
        for at, text in series[0]["values"] if series else []:
            value, moment = float(text), float(at)
            if not 0 <= moment <= UNIX_TIME_MAX:
                raise ValueError(f"{at} is not a time")
            # Prometheus writes NaN and ±Inf for what it can't tell: no sample.
            if math.isfinite(value) and value >= 0:
                found[moment] = value
    except (KeyError, TypeError, ValueError) as error:
        raise PrometheusError(f"the response of Prometheus to {promql!r} can't be parsed ({error})") from error
    return found


def _get(token: str, url: str, parameters: Mapping[str, str]) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with (
            httpx2.Client(timeout=TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", url, params=dict(parameters), headers=headers) as answer,
        ):
            body = bytearray()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    raise PrometheusError(
                        f"the response of Prometheus is longer than {BODY_BYTES_MAX} bytes; use a longer step"
                    )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise PrometheusUnreachableError(f"Prometheus does not answer at {url} ({error}); check its address") from error
    if answer.status_code >= 300 and not body.lstrip().startswith(b'{"status":'):
        raise PrometheusUnreachableError(_no_answer(url, answer.status_code))
    return bytes(body)


def _no_answer(url: str, status: int) -> str:
    """What an HTTP status without one of Prometheus' own answers says, and what to do about it."""
    if status in (401, 403):
        advice = "set token to one that may read"
    elif status == 503:
        advice = "it may still be starting"
    else:
        advice = "check that the address is Prometheus' own and what stands between"
    return f"Prometheus does not answer at {url} (HTTP {status}); {advice}"
