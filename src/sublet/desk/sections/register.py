"""`[[signals.past]]`: a register of questions that the signal board would have been asked, replayed with what was known then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line
from sublet.desk.errors import nearest
from sublet.desk.signals import Reading, Signal, capped, posterior
from sublet.desk.verdicts import Settled

PAST_MAX = 1000
READINGS_MAX = 100


def read_past(table: Table, build: Build, signals: Sequence[Signal], as_of: date) -> tuple[Settled, ...]:
    """Each past question with the probability that the board's ratios give from the readings observed by the day it was asked.

    What was observed later is ignored, and so is a question that was settled after `as_of`.
    """
    entries = table.tables("past")
    if len(entries) > PAST_MAX:
        raise table.fail("past", f"there are {len(entries)} past questions; give at most {PAST_MAX}")
    found = [_replayed(entry, build, signals) for entry in entries]
    return tuple(item for item in found if item.settled_on <= as_of)


def _replayed(table: Table, build: Build, signals: Sequence[Signal]) -> Settled:
    build.source(table)
    asked, prior = table.day("asked_on"), table.number("prior")
    known: dict[str, Reading] = {}
    entries = table.tables("readings")
    if len(entries) > READINGS_MAX:
        raise table.fail("readings", f"there are {len(entries)} readings; give at most {READINGS_MAX}")
    for entry in entries:
        name, reading = entry.text("signal"), entry.text("reading")
        if name not in [signal.id for signal in signals]:
            raise entry.fail(
                "signal", f"signal {name!r} is not on the board; {nearest(name, [each.id for each in signals])}"
            )
        if reading not in (Reading.BULL, Reading.BEAR):
            raise entry.fail("reading", f"reading {reading!r} is not known; {nearest(reading, ['bull', 'bear'])}")
        if entry.day("observed_on") <= asked:
            known[name] = Reading(reading)
        entry.finish()
    probability = at_line(table, "prior", posterior, prior, capped(signals, known))
    made = at_line(
        table, None, Settled, table.text("id"), table.text("question"), asked, float(probability), table.day("settled_on"),
        table.flag("came_true"),
    )  # fmt: skip
    table.finish()
    return made
