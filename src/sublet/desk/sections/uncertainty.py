"""`[monte_carlo]` and `[[scenarios]]`: which results are simulated, and which other worlds are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line

SAMPLES_MAX = 20_000_000
FAN_POINTS_MAX = 50


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """What to simulate: results by name, how many samples, from which seed; fans over the points of one input."""

    results: tuple[str, ...]
    samples: int
    seed: int
    fan_over: str
    fan_points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Another world: some values set otherwise, with a reason, and what the results become."""

    id: str
    title: str
    changes: Mapping[str, float]
    results: Mapping[str, float]


def read_simulation(root: Table, build: Build) -> SimulationPlan | None:
    """The `[monte_carlo]` table; None where the case has none."""
    if not root.has("monte_carlo"):
        return None
    table = root.table("monte_carlo")
    wanted = tuple(table.texts("results"))
    results = tuple(name for name in wanted if _is_there(table, build, name))
    for name in results:
        leaves = [build.sheet[leaf] for leaf in build.sheet.leaves(name)]
        if not any(leaf.distribution for leaf in leaves):
            raise table.fail(
                "results", f"{name!r} depends on no input with a distribution; give at least one of them one"
            )
    over = table.text("fan_over", "")
    if over:
        at_line(table, "fan_over", build.ref, over)
    points = tuple(table.numbers("fan_points", []))
    if bool(over) != bool(points) or len(points) > FAN_POINTS_MAX:
        raise table.fail("fan_points", f"a fan needs fan_over and fan_points together, at most {FAN_POINTS_MAX} points")
    plan = SimulationPlan(results, table.whole("samples", 200_000), table.whole("seed", 1), over, points)
    if not wanted or not 1000 <= plan.samples <= SAMPLES_MAX:
        raise table.fail("samples", f"name at least one result, and 1000 to {SAMPLES_MAX} samples")
    table.finish()
    return plan if results else None


def _is_there(table: Table, build: Build, name: str) -> bool:
    with build.faults.attempted("monte_carlo", name):
        at_line(table, "results", build.ref, name)
        return True
    return False


def read_scenarios(root: Table, build: Build, results: tuple[str, ...]) -> tuple[Scenario, ...]:
    """All `[[scenarios]]`, calculated for the case's headline results."""
    found = []
    for table in root.tables("scenarios"):
        with build.faults.attempted("scenarios"):
            found.append(_scenario(table, build, results))
    return tuple(found)


def _scenario(table: Table, build: Build, results: tuple[str, ...]) -> Scenario:
    changes_table = table.table("set")
    changes = {name: changes_table.number(name) for name in changes_table.data}
    for name in changes:
        at_line(changes_table, name, build.ref, name)
    found = {name: at_line(table, "set", build.sheet.recalculated, name, changes) for name in results}
    made = Scenario(table.text("id"), table.text("title"), changes, found)
    table.finish()
    return made
