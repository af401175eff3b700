"""What the reports of a lease's nodes add up to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise

from sublet.leases.backends.base import Delivery, Endpoint, RunState
from sublet.leases.backends.slurm.files import Report
from sublet.values.clock import from_micros

SILENT_US = 5_000_000
"""A report that is older says nothing of the present: its node may be gone."""
_SECOND = timedelta(seconds=1)


def deliveries_of(
    generations: Sequence[Sequence[Report]], nodes: int, now_us: int, *, live: bool
) -> tuple[Delivery, ...]:
    """Spans in which the tenant was served. Nothing counts in a generation before all its nodes are up; from then on each
    counts for as long as it serves. `live` says that the last generation may still be running, on `nodes` nodes."""
    found: list[Delivery] = []
    for place, reports in enumerate(generations):
        last = live and place == len(generations) - 1
        found += _of_generation(reports, nodes if last else len(reports), now_us, live=last)
    return tuple(_apart(found))


def state_of(reports: Sequence[Report], nodes: int, now_us: int) -> RunState:
    """Of a generation whose job is there or not known to be gone."""
    fresh = [report for report in reports if report.over or now_us - report.at_us <= SILENT_US]
    states = [report.state for report in fresh]
    if any(report.state == "failed" for report in reports):
        return RunState.FAILED
    if len(reports) == nodes and all(report.over for report in reports):
        return RunState.STOPPED if all(report.state == "stopped" for report in reports) else RunState.PAUSED
    if states.count("running") == nodes:
        return RunState.RUNNING
    was_up = len(reports) == nodes and all(report.runs for report in reports)
    return RunState.DEGRADED if was_up and "running" in states else RunState.STARTING


def endpoints_of(reports: Sequence[Report], host_of: Callable[[str], str]) -> tuple[Endpoint, ...]:
    """The doors of those that serve, by rank."""
    return tuple(
        Endpoint(host_of(report.node), report.port, report.user, report.host_key, report.fingerprint)
        for report in reports
        if report.state == "running" and report.port
    )


def traffic_of(generations: Sequence[Sequence[Report]]) -> dict[str, int]:
    """What went out and came in over all ranks. Each rank counts on from where its earlier generations stopped."""
    latest = {
        report.rank: report.traffic for reports in generations for report in reports if report.traffic is not None
    }
    found = {"bytes_out": 0, "bytes_in": 0, "connections": 0, "refused": 0}
    for counted in latest.values():
        for name, value in counted.items():
            found[name] = found.get(name, 0) + value
    return found


def guarantees_of(reports: Sequence[Report]) -> dict[str, dict[str, str]]:
    """Of each resource the weakest that any node gives."""
    order = ("none", "soft", "hard")
    found: dict[str, dict[str, str]] = {}
    for report in reports:
        for name, value in report.guarantees.items():
            known = found.get(name)
            if known is None or order.index(value.get("level", "none")) < order.index(known.get("level", "none")):
                found[name] = value
    return found


def _of_generation(reports: Sequence[Report], nodes: int, now_us: int, *, live: bool) -> list[Delivery]:
    if len(reports) < nodes or not reports or not all(report.runs for report in reports):
        return []
    began = max(report.runs[0][0] for report in reports)
    spans: list[tuple[int, int, int, bool]] = []
    for report in reports:
        silent = not live or report.over or now_us - report.at_us > SILENT_US
        for start, end, closed in report.runs:
            if end > began or not (closed or silent):
                spans.append((max(start, began), max(end, began), report.accelerators, not (closed or silent)))
    serving = [item for item in spans if item[3]]
    # Those that serve at this moment have said so at different moments; all of them served until the earliest.
    until = min((end for _, end, _, _ in serving), default=None)
    cut = [(start, until if is_open and until else end, many) for start, end, many, is_open in spans]
    edges = sorted({edge for start, end, _ in cut if end > start for edge in (start, end)})
    found: list[Delivery] = []
    for start, end in pairwise(edges):
        many = sum(item[2] for item in cut if item[0] <= start and item[1] >= end)
        if many:
            found.append(Delivery(from_micros(start), from_micros(end), many))
    joined = _joined(found)
    if until is not None:
        many, last = sum(item[2] for item in serving), joined[-1] if joined else None
        if last is not None and last.accelerators == many and last.end == from_micros(until):
            joined[-1] = Delivery(last.start, last.end, many, open=True)
        else:
            begun = from_micros(max(until, max(start for start, _, _, _ in serving)))
            joined.append(Delivery(begun, begun, many, open=True))
    return joined or [Delivery(from_micros(began), from_micros(began), sum(report.accelerators for report in reports))]


def _joined(found: Sequence[Delivery]) -> list[Delivery]:
    """Neighbors with the same count are one. What nodes say ends within a second of each other: that is one end."""
    joined: list[Delivery] = []
    for item in found:
        if joined and joined[-1].end == item.start and joined[-1].accelerators == item.accelerators:
            joined[-1] = Delivery(joined[-1].start, item.end, item.accelerators)
        elif not joined or item.end - item.start > _SECOND or item.accelerators > joined[-1].accelerators:
            joined.append(item)
    return joined


def _apart(found: Sequence[Delivery]) -> list[Delivery]:
    """In order and without overlap, whatever the clocks of two nodes say."""
    ordered: list[Delivery] = []
    for item in sorted(found, key=lambda each: each.start):
        start = max(item.start, ordered[-1].end) if ordered else item.start
        ordered.append(Delivery(start, max(start, item.end), item.accelerators, item.open))
    return ordered
