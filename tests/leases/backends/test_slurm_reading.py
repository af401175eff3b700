"""What Slurm prints, and what reports of nodes add up to: read without a cluster."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.config.settings import Settings
from sublet.leases.backends.base import BackendFailedError, Delivery, RunState
from sublet.leases.backends.registry import instances
from sublet.leases.backends.slurm.cluster import account_name
from sublet.leases.backends.slurm.evidence import SILENT_US, deliveries_of, state_of
from sublet.leases.backends.slurm.files import Order, Report, SlurmFiles
from sublet.leases.backends.slurm.hostlist import NODES_MAX, expand
from sublet.leases.backends.slurm.records import (
    gpus,
    jobs_of,
    kept_of,
    moment,
    nodes_of,
    record,
    seconds,
    works_of,
)
from sublet.values.clock import SimulatedClock, from_micros
from sublet.values.errors import InvalidInputError

S = 1_000_000
NOW = 1_800_000_000 * S


def test_lists_of_nodes() -> None:
    assert expand("h100-[01-03,07],login") == ("h100-01", "h100-02", "h100-03", "h100-07", "login")
    assert expand("r[1-2]n[09-10]") == ("r1n09", "r1n10", "r2n09", "r2n10")
    assert expand("") == expand("(null)") == ()
    for bad in ("n[1-", "n[a-b]", "n[1-99999999]", "r[1-1000]n[1-1000]"):
        with pytest.raises(BackendFailedError):
            expand(bad)
    assert len(expand(f"n[1-{NODES_MAX}]")) == NODES_MAX


def test_times_and_limits() -> None:
    assert moment("1795975344") == datetime.fromtimestamp(1795975344, UTC)
    assert [moment(text) for text in ("N/A", "Unknown", "None", "", "-1", "9" * 30)] == [None] * 6
    limits = {"30": 1800, "30:00": 1800, "1:00:00": 3600, "1-00:00:00": 86_400, "1-02": 93_600, "2-01:30": 178_200}
    assert {text: seconds(text) for text in limits} == limits
    assert [seconds(text) for text in ("UNLIMITED", "Partition_Limit", "", "x-1", "1:2:3:4")] == [None] * 5


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("gpu:h100:8", 8),
        ("gpu:8(S:0-1)", 8),
        ("gpu:h100:8(S:0,2),gpu:a100:2", 10),
        ("gpu", 1),
        ("gres:gpu:2", 2),
        ("(null)", 0),
        ("N/A", 0),
        ("shard:16", 0),
    ],
)
def test_accelerators_of_a_node(text: str, count: int) -> None:
    assert gpus(text) == count


def test_a_job_that_is_named_like_a_field_changes_nothing() -> None:
    name = "sublet-x|RUNNING|State=DOWN NodeName=evil\u202e"
    [job] = jobs_of(f"7|RUNNING|1795975344|n1|None|tag|{name}\n")
    assert (job.id, job.state, job.comment, job.name, job.live) == ("7", "RUNNING", "tag", name, True)
    line = "ReservationName=sublet-lse_a StartTime=1 EndTime=2 Nodes=n[1-2] NodeCnt=2 State=ACTIVE Comment=x EndTime=9"
    others = [f"ReservationName=x{line}", "no reservation", line.replace("sublet-lse_a", "admin"), ""]
    found = kept_of([*others, line], "sublet-")
    assert list(found) == ["sublet-lse_a"]
    assert found["sublet-lse_a"].nodes == ("n1", "n2") and found["sublet-lse_a"].end == moment("2")


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error_of_ours(text: str) -> None:
    record(text)
    jobs_of(text)
    gpus(text)
    seconds(text)
    try:
        nodes_of(text, "p", 8)
        kept_of(text.split("\n"), "")
        list(works_of(text, frozenset({"n1"}), frozenset({"p"}), 8, "tag"))
    except BackendFailedError:
        pass


def test_nodes_once_each_with_their_health() -> None:
    text = (
        "n1|internal*|idle|gpu:h100:8|h100|none\nn1|leases|idle|gpu:h100:8|h100|none\n"
        "n2|leases|draining|gpu:h100:8|h100|fan | failed\nn3|leases|down*|(null)|h100|Not responding\n"
        "n4|leases|mixed|gpu:h100:8|h100|none\nn5|leases|idle*|gpu:h100:8|h100|none\nn6|other|idle|gpu:h100:8||none\n"
    )
    lines = {line.name: line for line in nodes_of(text, "leases", 4)}
    assert list(lines) == ["n1", "n2", "n3", "n4", "n5"]
    assert [line.accelerators for line in lines.values()] == [8, 8, 4, 8, 8]
    health = {name: line.health for name, line in lines.items()}
    assert [name for name, item in health.items() if item.usable] == ["n1", "n4"]
    assert health["n2"].leaving and "fan | failed" in health["n2"].reason
    assert "Not responding" in health["n3"].reason


def test_the_owners_jobs_with_gangs_and_limits() -> None:
    rows = [
        "1|RUNNING|internal|100|110|400|5:00|2|n[1-2]|gres:gpu:8|None|(null)",
        "2|PENDING|internal|120|500|N/A|1-00:00:00|4||gpu:8|Resources|(null)",
        "3|RUNNING|other|100|110|400|5:00|1|n9|gpu:8|None|(null)",
        "4|PENDING|elsewhere|100|N/A|N/A|5:00|1||gpu:8|Priority|(null)",
        "5|RUNNING|leases|100|110|400|5:00|1|n3|N/A|None|ours",
        "6|RUNNING|internal|100|110|400|5:00|2|n[3,9]|N/A|None|(null)",
        "7|COMPLETED|internal|100|110|400|5:00|1|n1|N/A|None|(null)",
    ]
    here = frozenset({"n1", "n2", "n3"})
    works = {work.id: work for work in works_of("\n".join(rows), here, frozenset({"internal", "leases"}), 4, "ours")}
    assert set(works) == {"1", "2", "6"}
    assert (works["1"].accelerators, works["1"].nodes, works["1"].limit_s) == (16, 2, 300)
    assert (works["2"].accelerators, works["2"].running, works["2"].reason) == (32, False, "Resources")
    assert works["2"].begins_at == moment("500") and works["6"].accelerators == 4


def test_a_large_cluster_is_read_in_seconds() -> None:
    """5,000 nodes; a fifth of 100,000 jobs, which `bench/slurm.py` reads."""
    nodes = "\n".join(f"n{number:04d}|leases|mixed|gpu:h100:8|h100|none" for number in range(5_000))
    jobs = "\n".join(
        f"{number}|{'RUNNING' if number % 20 == 0 else 'PENDING'}|internal|1795975344|1795975344|1795979999|1-00:00:00|2|"
        f"{f'n[{number % 4000:04d}-{number % 4000 + 1:04d}]' if number % 20 == 0 else ''}|gres:gpu:8|Priority|(null)"
        for number in range(20_000)
    )
    began = time.process_time()
    here = frozenset(line.name for line in nodes_of(nodes, "leases", 8))
    works = list(works_of(jobs, here, frozenset({"internal"}), 8, "tag"))
    assert len(here) == 5_000 and len(works) == 20_000
    assert sum(work.accelerators for work in works) == 320_000
    assert time.process_time() - began < 3


def report(rank: int, runs: list[tuple[int, int, bool]], at_us: int = NOW, **changes: object) -> Report:
    values: dict[str, object] = {"state": "running", "accelerators": 8, **changes}
    return Report(1, rank, f"n{rank}", at_us, runs=runs, **values)  # type: ignore[arg-type]


def spans(found: tuple[Delivery, ...]) -> list[tuple[float, float, int, bool]]:
    zero = from_micros(NOW)
    return [
        ((item.start - zero).total_seconds(), (item.end - zero).total_seconds(), item.accelerators, item.open)
        for item in found
    ]


def test_nothing_counts_before_all_nodes_are_up() -> None:
    one, other = report(0, [(NOW, NOW + 10 * S, False)]), report(1, [(NOW + 2 * S, NOW + 9 * S, False)])
    assert spans(deliveries_of([[one]], 2, NOW, live=True)) == []
    assert spans(deliveries_of([[one, other]], 2, NOW, live=True)) == [(2, 9, 16, True)]


def test_a_node_that_is_lost_is_billed_until_it_was_last_heard() -> None:
    lost = report(1, [(NOW, NOW + 10 * S, False)], NOW + 10 * S)
    there = report(0, [(NOW, NOW + 60 * S, False)], NOW + 60 * S)
    later = NOW + 60 * S
    assert later - lost.at_us > SILENT_US
    assert state_of([there, lost], 2, later) is RunState.DEGRADED
    assert spans(deliveries_of([[there, lost]], 2, later, live=True)) == [(0, 10, 16, False), (10, 60, 8, True)]


def test_a_lease_that_came_back_was_served_twice() -> None:
    first = report(0, [(NOW, NOW + 10 * S, False)], NOW + 10 * S)
    second = report(0, [(NOW + 30 * S, NOW + 40 * S, False)], NOW + 40 * S)
    assert spans(deliveries_of([[first], [second]], 1, NOW + 40 * S, live=True)) == [
        (0, 10, 8, False),
        (30, 40, 8, True),
    ]
    assert all(not item.open for item in deliveries_of([[first], [second]], 1, NOW + 40 * S, live=False))


def test_the_ends_of_two_nodes_within_a_second_are_one_end() -> None:
    over = [report(rank, [(NOW, NOW + (10 * S + rank * S // 2), True)], state="stopped", over=True) for rank in (0, 1)]
    assert spans(deliveries_of([over], 2, NOW + 20 * S, live=False)) == [(0, 10, 16, False)]
    assert state_of(over, 2, NOW + 20 * S) is RunState.STOPPED


def test_one_of_two_that_does_not_start_fails_the_lease() -> None:
    """F14: nothing is billed."""
    reports = [report(0, [(NOW, NOW + S, False)]), report(1, [], state="failed", over=True)]
    assert state_of(reports, 2, NOW) is RunState.FAILED
    assert deliveries_of([reports], 2, NOW, live=False) == ()


def test_accounts_are_words_that_slurm_takes() -> None:
    assert account_name("org_a1") == "sublet-org_a1"
    odd = {account_name(name) for name in ("Org", "org a", "org;rm -rf", "ö", "x" * 80)}
    assert len(odd) == 5 and all(name.removeprefix("sublet-").isalnum() for name in odd)


def test_documents_of_another_version_are_read(tmp_path: Path) -> None:
    files = SlurmFiles(tmp_path, "lse_a")
    files.write_order(Order("lse_a", "org_a", "spot", 8, ["key"], NOW, None))
    path = files.root / "order.json"
    path.write_text(path.read_text().replace("{", '{"newer": 1, ', 1))
    found = files.order()
    assert found is not None and found.accelerators == 8
    path.write_text("{")
    assert files.order() is None


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"shared": None}, "options.shared: is missing"),
        ({"partition": None}, "options.partition: is missing"),
        ({"shared": "relative"}, "options.shared must be an absolute path"),
        ({"accelerators_per_node": 0}, "options.accelerators_per_node"),
        ({"partition": "-x"}, "options.partition"),
        ({"clean_s": 5}, "options.clean_s must be at least 60"),
        ({"preemptible_classes": "spot"}, "options.preemptible_partition: is missing"),
        ({"nodes": 3}, "options.nodes: slurm knows"),
    ],
)
def test_options_that_can_not_be_used_are_named(changes: dict[str, object], names: str) -> None:
    options = {"shared": "/srv/sublet", "partition": "leases", "accelerators_per_node": 8, **changes}
    options = {name: value for name, value in options.items() if value is not None}
    settings = Settings.model_validate({"backends": {"berlin": {"kind": "slurm", "options": options}}})
    with pytest.raises(InvalidInputError) as refused:
        instances(settings, SimulatedClock(), {})
    assert "backends.berlin" in refused.value.message and names in refused.value.message


def test_whole_nodes_are_leased() -> None:
    options = {
        "shared": "/srv/sublet",
        "partition": "leases",
        "accelerators_per_node": 8,
        "preemptible_partition": "spot",
    }
    settings = Settings.model_validate({"backends": {"berlin": {"kind": "slurm", "options": options}}})
    traits = instances(settings, SimulatedClock(), {})["berlin"].traits
    assert (traits.step, traits.reserves, traits.picks_units) == (8, True, True)
    assert traits.keeps("firm") and not traits.keeps("spot")
