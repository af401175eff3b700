"""Prometheus, Slurm and the Alibaba job file are read as their makers write them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sublet.demand.feeds.alibaba import BadJobFileError, read_jobs, series_of_model
from sublet.demand.feeds.prometheus import POINTS_MAX as PROMETHEUS_POINTS_MAX
from sublet.demand.feeds.prometheus import (
    Numbers,
    PoolQuery,
    PrometheusCollector,
    PrometheusError,
    PrometheusUnreachableError,
    kubernetes,
    parse_range,
    query_of,
)
from sublet.demand.feeds.prometheus_feed import PrometheusFeed
from sublet.demand.feeds.slurm import (
    SACCT_FIELDS,
    BadSlurmOutputError,
    parse_sacct,
    parse_squeue,
    series_of_jobs,
    told_of,
    tres_gpus,
)
from sublet.demand.model import Sample
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError

START = datetime(2026, 3, 1, tzinfo=UTC)


def matrix(*points: tuple[float, str]) -> bytes:
    result = [{"metric": {}, "values": [list(point) for point in points]}]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def test_prometheus_gives_samples_where_both_are_known() -> None:
    at = START.timestamp()
    asked: list[Mapping[str, str]] = []

    def fetch(url: str, parameters: Mapping[str, str]) -> bytes:
        assert url == "http://prom:9090/api/v1/query_range"
        asked.append(parameters)
        if parameters["query"] == "busy":
            return matrix((at, "3"), (at + 60, "NaN"), (at + 120, "5"))
        return matrix((at, "8"), (at + 60, "8"), (at + 120, "8"))

    collector = PrometheusCollector("http://prom:9090/", fetch)
    samples = collector.samples(PoolQuery("busy", "all"), START, START + timedelta(minutes=2))
    assert [(item.time, item.capacity, item.in_use) for item in samples] == [
        (START, 8, 3),
        (START + timedelta(minutes=2), 8, 5),
    ]
    assert asked[0]["step"] == "60"
    assert len(collector.samples(PoolQuery("busy", 16), START, START + timedelta(minutes=2))) == 2


def test_what_prometheus_lacks_is_named() -> None:
    at = START.timestamp()
    assert Numbers({}, {at: 8}, {}).lack() == "in_use gives no number at any time of it"
    assert Numbers({at: 3}, {}, {}).lack() == "capacity gives no number at any time of it"
    assert Numbers({at: 3}, {at + 60: 8}, {}).lack() == "in_use and capacity give numbers at other times"
    assert Numbers({at: 3}, {at: 8}, {}).lack() == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "did not return JSON"),
        (b'{"status":"error","error":"parse error"}', "parse error"),
        (b'{"status":"success","data":{"resultType":"vector","result":[]}}', "instant vector"),
        (
            b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[]},{"values":[]}]}}',
            "returns 2 series; wrap it in sum",
        ),
        (b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1]]}]}}', "can't be parsed"),
        (b'{"status": "success", "data": null}', "instant vector of numbers"),
        (b'{"status": "success", "data": []}', "instant vector of numbers"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1e30,"5"]]}]}}', "is not a time"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[["NaN","5"]]}]}}', "is not a time"),
    ],
)
def test_prometheus_answers_that_are_none(body: bytes, words: str) -> None:
    with pytest.raises(PrometheusError, match=words):
        parse_range(body)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, b"Service Unavailable", r"HTTP 503\); it may still be starting"),
        (401, b"Unauthorized\n", "set token to one that may read"),
        (404, b"<html>", "check that the address is Prometheus' own"),
    ],
)
def test_an_http_error_is_told_with_what_to_do(status: int, body: bytes, words: str) -> None:
    with answering(status, body) as url, pytest.raises(PrometheusUnreachableError, match=words):
        PrometheusCollector(url).samples(PoolQuery("up", 8), START, START + timedelta(minutes=1))


def test_what_prometheus_says_of_a_bad_query_is_passed_on() -> None:
    body = b'{"status":"error","errorType":"bad_data","error":"unclosed left parenthesis"}'
    with answering(400, body) as url, pytest.raises(PrometheusError, match="refused 'up': unclosed left") as raised:
        PrometheusCollector(url).samples(PoolQuery("up", 8), START, START + timedelta(minutes=1))
    assert not isinstance(raised.value, PrometheusUnreachableError)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The address of a server on loopback that says the same to everyone."""

    class Same(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Same) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_what_is_not_seen_idle_counts_as_used_and_tenants_do_not() -> None:
    query = query_of("dcgm", "gpu-.*", "", "", "", 8, ["nvidia:3", "nvidia:0"])
    assert query.in_use.startswith("clamp_min(6 - (count(") and query.capacity == 8
    for label in ("hostname", "Hostname"):
        assert f'{label}=~"gpu-.*",device!~"nvidia0|nvidia3"' in query.in_use
    assert 'namespace!~"sublet.*"' in kubernetes("gpu-.*").in_use


def test_queries_of_ones_own_stand_before_the_exporters() -> None:
    own = query_of("kubernetes", "n.*", "mine - $held", "16", "", 8, ["a", "b"])
    assert (own.in_use, own.capacity, own.pending) == ("mine - 2", 16, kubernetes("n.*").pending)
    assert query_of("", "", "mine", "", "", 8) == PoolQuery("mine", 8)
    with pytest.raises(InvalidInputError, match="dcgm, slurm or kubernetes"):
        query_of("", "", "", "", "", 8)
    for number in ("-5", "0", "inf", "nan", "-1e3"):
        with pytest.raises(InvalidInputError, match=f"capacity is {number}; use a number above 0 or a PromQL query"):
            query_of("", "", "mine", number, "", 8)
    with pytest.raises(InvalidInputError, match="must not contain quotes"):
        query_of("slurm", 'gpu"} or up{x="', "", "", "", 8)


class Prometheus:
    """One series of demand by the minute, and anyone who asks is written down."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []
        self.unknown: set[float] = set()
        self.broken = False

    def fetch(self, url: str, parameters: Mapping[str, str]) -> bytes:
        if self.broken:
            raise PrometheusError("Prometheus does not answer")
        first, last, step = (float(parameters[name]) for name in ("start", "end", "step"))
        self.asked.append((first, last))
        times = [first + step * index for index in range(int((last - first) // step) + 1)]
        return matrix(*((at, str(at % 7)) for at in times if at not in self.unknown))


def feed_of(store: Store, prometheus: Prometheus) -> tuple[PrometheusFeed, Demand]:
    demand = Demand(store)
    collector = PrometheusCollector("http://prom:9090", prometheus.fetch)
    return PrometheusFeed(demand, "p", collector, lambda: PoolQuery("busy", 8), 60, store.clock), demand


def seen(demand: Demand, clock: SimulatedClock) -> list[float]:
    series = demand.history("p", clock.now() - timedelta(days=60), clock.now() + timedelta(seconds=1))
    return (series.times_us / 1e6).tolist()


def test_a_feed_brings_what_is_new_and_no_more(store: Store, clock: SimulatedClock) -> None:
    prometheus = Prometheus()
    feed, demand = feed_of(store, prometheus)
    clock.set(START + timedelta(seconds=30))
    assert feed.collect() == PROMETHEUS_POINTS_MAX, "the oldest of 28 days first"
    while feed.collect():
        pass
    times = seen(demand, clock)
    assert times == [START.timestamp() - 60 * back for back in reversed(range(28 * 24 * 60))]
    assert feed.collect() == 0
    clock.advance(90)
    assert feed.collect() == 2 and prometheus.asked[-1] == (START.timestamp() + 60, START.timestamp() + 120)


def test_a_gap_stays_a_gap_and_an_outage_is_made_up_for(store: Store, clock: SimulatedClock) -> None:
    prometheus = Prometheus()
    feed, demand = feed_of(store, prometheus)
    clock.set(START + timedelta(minutes=5))
    demand.record_samples("p", [Sample(START, 8, 1)])
    prometheus.broken = True
    with pytest.raises(PrometheusError):
        feed.collect()
    prometheus.broken = False
    prometheus.unknown = {START.timestamp() + 120}
    assert feed.collect() == 4
    assert seen(demand, clock) == [START.timestamp() + 60 * minute for minute in (0, 1, 3, 4, 5)]


SACCT = "\n".join(
    [
        "|".join(SACCT_FIELDS),
        "100|gpu|COMPLETED|2026-03-01T00:00:00|2026-03-01T00:30:00|2026-03-01T02:00:00|"
        "cpu=8,gres/gpu=4,gres/gpu:a100=4,node=1|cpu=8,gres/gpu=4|120|vision",
        "100.batch|gpu|COMPLETED|2026-03-01T00:00:00|2026-03-01T00:30:00|2026-03-01T02:00:00|gres/gpu=4|||vision",
        "101|gpu|RUNNING|2026-03-01T01:00:00|2026-03-01T01:10:00|Unknown|gres/gpu:a100=2|gres/gpu:a100=2|UNLIMITED|nlp",
        "102|gpu|PENDING|2026-03-01T02:10:00|Unknown|Unknown||cpu=1,gres/gpu=8|60|nlp",
        "103|gpu|RUNNING|2026-03-01T00:00:00|2026-03-01T00:00:00|Unknown|gres/gpu=8|gres/gpu=8|60|sublet",
        "104|cpu|RUNNING|2026-03-01T00:00:00|2026-03-01T00:00:00|Unknown|cpu=8|cpu=8|60|nlp",
    ]
)


def test_sacct_jobs_become_demand_by_the_hour() -> None:
    jobs = parse_sacct(SACCT.splitlines())
    assert [(job.id, job.accelerators) for job in jobs] == [("100", 4), ("101", 2), ("102", 8)]
    series = series_of_jobs(jobs, "gpu", 16, START, START + timedelta(hours=4))
    assert series.in_use.tolist() == [4, 6, 2, 2]
    assert series.pending.tolist() == [4, 2, 8, 8]


def test_a_job_that_ends_as_another_begins_is_no_peak() -> None:
    lines = [
        SACCT.splitlines()[0],
        "1|gpu|COMPLETED|2026-03-01T00:00:00|2026-03-01T00:00:00|2026-03-01T01:00:00|gres/gpu=4||60|a",
        "2|gpu|COMPLETED|2026-03-01T00:00:00|2026-03-01T01:00:00|2026-03-01T02:00:00|gres/gpu=4||60|a",
    ]
    series = series_of_jobs(parse_sacct(lines), "gpu", 8, START, START + timedelta(hours=3))
    assert series.in_use.tolist() == [4, 4, 0]


def test_squeue_tells_running_and_pending() -> None:
    jobs = parse_squeue(
        [
            "7|gpu|RUNNING|2026-03-01T00:00:00|2026-03-01T01:00:00|2026-03-01T09:00:00|gres/gpu:a100:4|2|8:00:00|vision|None",
            "8|gpu|PENDING|2026-03-01T02:00:00|N/A|N/A|gpu:8|4|1-00:00:00|nlp|Resources",
            "9|cpu|PENDING|2026-03-01T02:00:00|N/A|N/A|N/A|1|1:00|nlp|Priority",
            "10|gpu|PENDING|2026-03-01T02:00:00|N/A|N/A|gres/gpu:8|2-3|1:00|nlp|Dependency",
            "11|gpu|RUNNING|2026-03-01T00:00:00|2026-03-01T01:00:00|2026-03-01T09:00:00|gpu:4|2|8:00:00|sublet|None",
        ]
    )
    told = [(job.id, job.accelerators, job.start is None) for job in jobs]
    assert told == [("7", 8, False), ("8", 32, True), ("10", 24, True)]


@pytest.mark.parametrize(
    "text", ["", "JobID|Partition\n1|gpu", "|".join(SACCT_FIELDS) + "\n1|2", SACCT + "\n5|g|R|noon||||||a"]
)
def test_what_sacct_never_prints_is_refused(text: str) -> None:
    with pytest.raises(BadSlurmOutputError, match=r"line|empty"):
        parse_sacct(text.splitlines())


def test_a_byte_order_mark_and_blank_lines_say_nothing() -> None:
    lines = SACCT.splitlines()
    assert parse_sacct(["\ufeff" + lines[0], "", *lines[1:], "", "  "]) == parse_sacct(lines)
    with pytest.raises(BadSlurmOutputError, match="line 4 has 1 cells"):
        parse_sacct([lines[0], "", lines[1], "7"])


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59"])
def test_a_job_at_the_end_of_the_calendar_is_refused(moment: str) -> None:
    sacct = f"1|gpu|COMPLETED|{moment}|2026-03-01T00:30:00|2026-03-01T02:00:00|gres/gpu=4||120|vision"
    with pytest.raises(BadSlurmOutputError, match=r"line 2: time .* is outside the years 1970 to 8999"):
        parse_sacct([SACCT.splitlines()[0], sacct])
    with pytest.raises(BadSlurmOutputError, match=r"line 1: time .* is outside"):
        parse_squeue([f"7|gpu|RUNNING|{moment}|2026-03-01T01:00:00|2026-03-01T09:00:00|gpu:4|2|8:00:00|a|None"])


@pytest.mark.parametrize("digits", ["10000001", "9" * 400, "9" * 5_000])
def test_a_job_with_more_gpus_than_there_are_is_refused(digits: str) -> None:
    for tres in (f"gres/gpu={digits}", f"gres/gpu:a100={digits}"):
        sacct = f"1|gpu|RUNNING|2026-03-01T00:00:00|2026-03-01T00:30:00|Unknown|{tres}||120|vision"
        with pytest.raises(BadSlurmOutputError, match="line 2: the job has more than 10000000 GPUs"):
            parse_sacct([SACCT.splitlines()[0], sacct])
    for cells in (f"gpu:{digits}|2", f"gpu:8|{digits}"):
        with pytest.raises(BadSlurmOutputError, match="line 1: the job has more than 10000000 GPUs"):
            parse_squeue([f"8|gpu|PENDING|2026-03-01T02:00:00|N/A|N/A|{cells}|1-00:00:00|a|None"])


def test_tres_counts_the_total_or_the_typed() -> None:
    assert tres_gpus("cpu=1,gres/gpu=4,gres/gpu:a100=4") == 4
    assert tres_gpus("gres/gpu:a100=4,gres/gpu:h100=2") == 6
    assert tres_gpus("cpu=4,mem=8G") == 0


ALIBABA = """job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type
a,o1,A100-SXM4-80GB,8,8,2,0,3600,HP
b,o1,A100-SXM4-80GB,8,1,4,1800,7200,Spot
c,o2,A100-SXM4-80GB,8,0.5,1,5400,600,HP
d,o2,A800,8,8,1,0,60,HP
"""


def test_alibaba_jobs_of_the_owner_are_demand() -> None:
    jobs = read_jobs(ALIBABA.splitlines(), START)
    assert sorted(jobs) == ["A100-SXM4-80GB", "A800"]
    series = series_of_model(jobs["A100-SXM4-80GB"], "a100", 64)
    assert series.in_use.tolist() == [16, 1]
    with pytest.raises(BadJobFileError, match="line 1 is missing"):
        read_jobs(["a,b"], START)
    with pytest.raises(BadJobFileError, match="line 2: job_type"):
        read_jobs([*ALIBABA.splitlines()[:1], "a,o,A,1,1,1,0,1,Other"], START)
    with pytest.raises(BadJobFileError, match="line 2: duration"):
        read_jobs([*ALIBABA.splitlines()[:1], "a,o,A,1,1,1,0,soon,HP"], START)


def test_a_job_that_was_cancelled_before_it_began_waits_no_longer() -> None:
    lines = [
        SACCT.splitlines()[0],
        "1|gpu|CANCELLED by 7|2026-03-01T00:10:00|None|2026-03-01T01:30:00||gres/gpu=8|60|a",
    ]
    series = series_of_jobs(parse_sacct(lines), "gpu", 8, START, START + timedelta(hours=3))
    assert series.in_use.tolist() == [0, 0, 0]
    assert series.pending.tolist() == [8, 8, 0]


def test_sacct_tells_nothing_before_the_first_end_and_after_its_last_moment() -> None:
    jobs = parse_sacct([*SACCT.splitlines(), "105|gpu|RUNNING|2026-03-01T07:20:00|Unknown|Unknown||gres/gpu=8|60|nlp"])
    hour = timedelta(hours=1)
    assert told_of(jobs, START - 2160 * hour, START + 90 * hour) == (START + 2 * hour, START + 7 * hour)
    assert told_of(jobs, START + 3 * hour, START + 5 * hour) == (START + 3 * hour, START + 5 * hour)
    with pytest.raises(InvalidInputError, match="no full hour"):
        told_of(jobs, START + 8 * hour, START + 90 * hour)
    with pytest.raises(InvalidInputError, match="no job"):
        told_of(parse_sacct(SACCT.splitlines()[:1]), START, START + hour)


def test_jobs_of_absurd_times_and_sizes_are_refused() -> None:
    head = ALIBABA.splitlines()[0]
    for row in ("a,o,A,1,8,2,1e11,10,HP", "a,o,A,1,8,2,0,9e11,HP", "a,o,A,1,1e11,1,0,10,HP", "a,o,A,1,8"):
        with pytest.raises(BadJobFileError, match="line 2"):
            read_jobs([head, row], START)
    with pytest.raises(InvalidInputError, match="at once"):
        series_of_model(read_jobs([head, "a,o,A,1,1e7,9,0,10,HP"], START)["A"], "A", 8)
