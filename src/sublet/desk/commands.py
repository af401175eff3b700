"""`sublet desk`: what it is worth."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.tree import Tree

from sublet.desk.briefing import brief as briefing_text
from sublet.desk.comparison import compare
from sublet.desk.desk import LANGUAGES, open_case
from sublet.desk.errors import CaseError
from sublet.desk.formulas import FORMULAS
from sublet.desk.report.page import figure
from sublet.desk.sections.uncertainty import SAMPLES_MAX
from sublet.desk.service import run_simulation, write_reports
from sublet.desk.sheet import Explanation, Value
from sublet.desk.template import write_template

app = typer.Typer(
    help="What capacity is worth: values with units, reports, uncertainty, briefings.", no_args_is_help=True
)

Case = Annotated[Path, typer.Argument(help="A case: a TOML file. `sublet desk init` writes one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_PROGRESS_FROM = 2_000_000
"""Samples from which a simulation takes long enough for a progress bar."""


@app.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("case.toml")) -> None:
    """Write a commented case to start from."""
    write_template(path)
    _console().print(f"Wrote {path}. Next: sublet desk report {path}")


@app.command()
def values(
    case: Case,
    as_json: AsJson = False,
    prefix: Annotated[str, typer.Option(help="Only names that start with this.")] = "",
) -> None:
    """Every value of a case with unit, status, source and formula."""
    found = {name: value for name, value in open_case(case).values().items() if name.startswith(prefix)}
    if as_json:
        _print_json(found)
        return
    table = Table("name", "value", "unit", "status", "source", "formula")
    for name, value in found.items():
        content = value["value"]
        shown = figure(content, 6) if isinstance(content, float) else str(content)
        table.add_row(name, shown, value["unit"], value["status"], value["source"], value["formula"])
    _console().print(table)


@app.command()
def explain(case: Case, name: Annotated[str, typer.Argument(help="A value's name.")], as_json: AsJson = False) -> None:
    """The tree behind a value, down to its sources."""
    explanation = open_case(case).sheet.explain(name)
    if as_json:
        _print_json(_explained(explanation))
        return
    tree = Tree(_line(explanation.value), guide_style="dim")
    _grow(tree, explanation)
    _console().print(tree)


@app.command()
def report(
    case: Case,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write to.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write the case's report: one HTML page, one XLSX with live formulas, one JSON."""
    written = write_reports(open_case(case), out)
    if as_json:
        _print_json({"html": str(written.html), "xlsx": str(written.xlsx), "json": str(written.json)})
        return
    for path in (written.html, written.xlsx, written.json):
        _console().print(str(path), soft_wrap=True)


@app.command()
def mc(
    case: Case,
    samples: Annotated[
        int | None, typer.Option(min=1000, max=SAMPLES_MAX, help="How many draws; the case's own number by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The seed; the case's own by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Monte Carlo over the case's distributions: quantiles and contributions to variance."""
    desk = open_case(case)
    count = samples or (desk.simulation.samples if desk.simulation is not None else 0)
    with Progress(console=Console(stderr=True), disable=count < _PROGRESS_FROM) as progress:
        task = progress.add_task("drawing", total=count)
        found = run_simulation(desk, samples, seed, lambda done: progress.advance(task, done))
    if as_json:
        _print_json([
            {"name": item.name, "unit": desk.sheet[item.name].unit, "samples": item.samples, "mean": item.mean, "sd": item.sd,
             "standard_error": item.standard_error, "below_zero": item.below_zero,
             "quantiles": {str(point): number for point, number in item.quantiles.items()},
             "contributions": dict(item.contributions)}
            for item in found
        ])  # fmt: skip
        return
    table = Table("", *(f"{desk.title(item.name)}, {desk.sheet[item.name].unit}" for item in found))
    table.add_row("mean", *(figure(item.mean) for item in found))
    table.add_row("standard deviation", *(figure(item.sd) for item in found))
    table.add_row("below zero", *(f"{item.below_zero:.1%}" for item in found))
    for point in found[0].quantiles:
        table.add_row(f"{point:.0%}", *(figure(item.quantiles[point]) for item in found))
    _console().print(table)
    shares = Table("contribution to variance", *(item.name for item in found))
    for name in found[0].contributions:
        shares.add_row(desk.title(name), *(f"{item.contributions.get(name, 0.0):.1%}" for item in found))
    _console().print(shares)


@app.command()
def diff(
    before: Case,
    after: Annotated[Path, typer.Argument(help="The other case.")],
    result: Annotated[
        list[str] | None, typer.Option(help="Results to explain; the headline results by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What changed between two cases, and how much of each result's change each assumption explains."""
    old, new = open_case(before), open_case(after)
    found = compare(old, new, result or ())
    if as_json:
        _print_json({
            "inputs": [{"name": item.name, "unit": item.unit, "before": item.before, "after": item.after} for item in found.inputs],
            "formulas": [{"name": name, "before": one, "after": other} for name, one, other in found.formulas],
            "results": [
                {"name": item.name, "unit": item.unit, "before": item.before, "after": item.after, "change": item.change,
                 "parts": dict(item.parts), "exact": item.is_exact}
                for item in found.results
            ],
        })  # fmt: skip
        return
    inputs = Table("assumption", "before", "after", "unit")
    for item in found.inputs:
        inputs.add_row(item.name, _or_none(item.before), _or_none(item.after), item.unit)
    for name, one, other in found.formulas:
        inputs.add_row(name, one, other, "formula")
    _console().print(inputs)
    results = Table("result", "before", "after", "change", "explained by")
    for change in found.results:
        parts = "\n".join(f"{name}: {figure(part)}" for name, part in change.parts.items())
        results.add_row(
            new.title(change.name), figure(change.before), figure(change.after), figure(change.change), parts
        )
    _console().print(results)


@app.command()
def brief(
    case: Case,
    language: Annotated[str, typer.Option(help=f"One of {', '.join(LANGUAGES)}.")] = "en",
    as_json: AsJson = False,
) -> None:
    """One page of text: the claim, what the numbers say, where sources disagree, what would change the answer."""
    if language not in LANGUAGES:
        raise CaseError(f"language {language!r} is not one that the desk writes; use one of {', '.join(LANGUAGES)}")
    text = briefing_text(open_case(case), language)
    if as_json:
        _print_json(
            {
                "language": language,
                "sentences": [
                    {"part": item.part, "text": item.text, "values": list(item.values)} for item in text.sentences
                ],
            }
        )
        return
    typer.echo(text.render())


@app.command()
def formulas(as_json: AsJson = False) -> None:
    """The formulas that a case's own formulas may call, with the units that they take and give."""
    found = {
        name: {"unit": item.unit, "takes": item.units, "meaning": item.meaning}
        for name, item in sorted(FORMULAS.items())
    }
    if as_json:
        _print_json(found)
        return
    table = Table("formula", "takes", "gives", "meaning")
    for name, item in found.items():
        takes = item["takes"]
        assert isinstance(takes, Mapping)
        table.add_row(
            name, ", ".join(f"{key} [{unit}]" for key, unit in takes.items()), str(item["unit"]), str(item["meaning"])
        )
    _console().print(table)


def _console() -> Console:
    return Console(markup=False, highlight=False)


def _print_json(found: Any) -> None:
    """One line in a pipe, indented for a person."""
    typer.echo(json.dumps(found, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None, allow_nan=False))


def _explained(explanation: Explanation) -> dict[str, Any]:
    found = {"name": explanation.value.name, **explanation.value.as_dict()}
    if explanation.parts:
        found["from"] = [_explained(part) for part in explanation.parts]
    return found


def _grow(tree: Tree, explanation: Explanation) -> None:
    for part in explanation.parts:
        _grow(tree.add(_line(part.value)), part)


def _line(value: Value) -> str:
    head = (
        f"{value.name} = {figure(value.number, 8) if value.is_number else value.content} {value.unit} [{value.status}]"
    )
    if value.term is not None:
        return f"{head}\n  = {value.formula}" + (f"\n  {value.note}" if value.note else "")
    extent = f", range {value.range}" if value.range is not None else ""
    how = f"\n  {value.formula}" if value.formula else ""
    return f"{head}{extent}\n  {value.source}, {value.date}{how}" + (f"\n  {value.note}" if value.note else "")


def _or_none(number: float | None) -> str:
    return "not there" if number is None else figure(number, 6)
