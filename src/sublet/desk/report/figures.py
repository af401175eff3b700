"""The same results as JSON: every number with unit, status and source, every section by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sublet.desk.desk import Desk
from sublet.desk.montecarlo import Fan, SimulatedResult
from sublet.desk.plausible import doubts


def as_json(desk: Desk, simulated: Sequence[SimulatedResult], fans: Sequence[Fan], version: str) -> dict[str, Any]:
    """The report's data. Sections name values; `values` has each of them with unit, status, source, date and formula."""
    heading = desk.heading
    found: dict[str, Any] = {
        "case": {
            "name": heading.name, "title": heading.title, "owner": heading.owner, "as_of": heading.as_of.isoformat(),
            "version": heading.version, "hash": desk.digest, "sublet": version,
        },
        "results": list(heading.results),
        "problems": [asdict(problem) for problem in desk.problems],
        "doubts": [{**asdict(doubt), "file": Path(doubt.file).name} for doubt in doubts(desk.sheet)],
        "values": desk.values(),
        "statements": [_statement(row) for row in desk.statements],
        "scenarios": [
            {"id": item.id, "title": item.title, "set": dict(item.changes), "results": dict(item.results)}
            for item in desk.scenarios
        ],
        "monte_carlo": [_simulated(item, desk) for item in simulated],
        "fans": [
            {"name": item.name, "over": item.over, "points": item.points,
             "bands": {str(point): band for point, band in item.bands.items()}}
            for item in fans
        ],
    }  # fmt: skip
    if desk.bridge is not None:
        found["grids"] = {grid.mode: {"title": grid.title, "cells": grid.names} for grid in desk.bridge.grids}
        found["axes"] = {"power_mw": desk.bridge.axis_power, "price_usd_per_w_year": desk.bridge.axis_price}
        found["tornado"] = [{**asdict(bar), "swing": bar.swing} for bar in desk.bridge.tornado]
    if desk.customers is not None:
        four = desk.customers.backlogs
        found["backlogs"] = {"unit": "USD bn", "status": "derived", "source": desk.customers.seller, **asdict(four)}
        found["renewal_ladder"] = {str(year): dict(rungs) for year, rungs in desk.customers.ladder.items()}
        found["stress_by_year"] = {str(year): loss for year, loss in desk.customers.loss.items()}
    if desk.signals is not None:
        found["signals"] = [
            {**asdict(item), "due": item.due.isoformat(), "observed_on": item.observed_on and item.observed_on.isoformat(),
             "state": str(item.state_at(desk.signals.as_of))}
            for item in desk.signals.signals
        ]  # fmt: skip
    found["series"] = [
        {"name": item.name, "unit": item.unit, "calendar": item.calendar.name, "values": list(item.names), "years": dict(item.years),
         "periods": [{"label": period.label, "from": period.start.isoformat(), "until": period.until.isoformat()}
                     for period in item.calendar.periods]}
        for item in desk.timeline
    ]  # fmt: skip
    found["sensitivity"] = [asdict(item) for item in desk.sensitivities]
    found["verdicts"] = [
        {"id": item.judgment.question.id, "question": item.judgment.question.text, "prior": item.prior,
         "settles_on": item.judgment.question.settles_on.isoformat(), "probability": item.judgment.probability,
         "word": str(item.judgment.word), "moved_db": dict(item.judgment.moved), "without": dict(item.judgment.without),
         "closed_gates": list(item.judgment.closed_gates)}
        for item in desk.verdicts
    ]  # fmt: skip
    found["signals_score"] = None if desk.signals is None or desk.signals.score is None else asdict(desk.signals.score)
    found["verdict_score"] = None if desk.score is None else asdict(desk.score)
    found["surplus_and_glut"] = [
        {"id": item.id, "title": item.title, "source": item.source, **asdict(item.verdicts)} for item in desk.surplus
    ]
    return found


def _statement(row: Any) -> dict[str, Any]:
    found = asdict(row)
    found["value"] = found.pop("content")
    found["source"], found["date"] = row.source.title, row.source.date
    extent = found.pop("range")
    if extent is not None:
        found["low"], found["high"] = (end if abs(end) != float("inf") else None for end in extent.values())
    return found


def _simulated(item: SimulatedResult, desk: Desk) -> dict[str, Any]:
    value = desk.sheet[item.name]
    return {
        "name": item.name, "unit": value.unit, "status": "modeled", "source": value.source, "samples": item.samples,
        "mean": item.mean, "sd": item.sd, "standard_error": item.standard_error, "below_zero": item.below_zero,
        "quantiles": {str(point): number for point, number in item.quantiles.items()},
        "contributions": dict(item.contributions), "explained": item.explained,
    }  # fmt: skip
