"""`[monte_carlo]` and `[[scenarios]]`: which results are simulated, and which other worlds are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sublet.desk.case import Build
from sublet.desk.correlation import correlated_groups
from sublet.desk.documents import Table, at_line
from sublet.desk.errors import nearest

SAMPLES_MAX = 20_000_000
FAN_POINTS_MAX = 50
CORRELATIONS_MAX = 100


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


def read_correlations(root: Table, build: Build) -> None:
    """All `[[correlations]]`: rank correlations of inputs with a distribution, checked to hold together."""
    tables = root.tables("correlations")
    if len(tables) > CORRELATIONS_MAX:
        raise root.fail("correlations", f"the case has {len(tables)} correlations; give at most {CORRELATIONS_MAX}")
    for table in tables:
        with build.faults.gathered():
            names, rank = table.texts("inputs"), table.number("rank")
            if len(names) != 2 or names[0] == names[1]:
                raise table.fail("inputs", 'a correlation is of two inputs; write inputs = ["ONE", "OTHER"]')
            for name in names:
                at_line(table, "inputs", build.ref, name)
                if build.sheet[name].distribution is None:
                    raise table.fail(
                        "inputs", f"{name!r} has no distribution, so nothing of it can move together with another"
                    )
            if not -1 < rank < 1:
                raise table.fail("rank", f"rank is {rank:g}; write a rank correlation above -1 and below 1")
            pair = frozenset(names)
            if pair in build.sheet.correlations:
                raise table.fail("inputs", f"{names[0]} and {names[1]} are correlated twice; keep one of them")
            build.sheet.correlations[pair] = rank
            table.finish()
            inputs = [value.name for value in build.sheet if value.distribution is not None]
            at_line(table, "rank", correlated_groups, build.sheet.correlations, inputs)


def _is_there(table: Table, build: Build, name: str) -> bool:
    with build.faults.attempted("monte_carlo", name):
        at_line(table, "results", build.ref, name)
        return True
    return False


def read_scenarios(root: Table, build: Build, results: tuple[str, ...]) -> tuple[Scenario, ...]:
    """All `[[scenarios]]`, calculated for the case's headline results."""
    found: list[Scenario] = []
    for table in root.tables("scenarios"):
        with build.faults.attempted("scenarios"):
            found.append(_scenario(table, build, results, found))
    return tuple(found)


def _scenario(table: Table, build: Build, results: tuple[str, ...], before: Sequence[Scenario]) -> Scenario:
    """A scenario that inherits starts from what an earlier one sets; its own numbers come over that."""
    changes_table = table.table("set")
    own = {name: changes_table.number(name) for name in changes_table.data}
    inherited: Mapping[str, float] = {}
    if table.has("inherits"):
        parent, known = table.text("inherits"), {scenario.id: scenario for scenario in before}
        if parent not in known:
            raise table.fail("inherits", f"{parent!r} is no scenario before this one; {nearest(parent, known)}")
        inherited = known[parent].changes
    changes = {**inherited, **own}
    for name in own:
        at_line(changes_table, name, build.ref, name)
    found = {name: at_line(table, "set", build.sheet.recalculated, name, changes) for name in results}
    made = Scenario(table.text("id"), table.text("title"), changes, found)
    table.finish()
    return made
