"""`sublet desk`: what it is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands.revenue import show_actuals
from sublet.desk.digits import figure
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.values.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.tree import Tree

    from sublet.desk.desk import Desk
    from sublet.desk.montecarlo import SimulatedResult
    from sublet.desk.sheet import Explanation, Value

app = typer.Typer(
    help="What capacity is worth: values with units, reports, uncertainty, briefings.", no_args_is_help=True
)

Case = Annotated[Path, typer.Argument(help="A case: a TOML file. `sublet desk init` writes one.")]

SAMPLES_MAX = 20_000_000
_PROGRESS_FROM = 2_000_000
"""Samples from which a simulation takes long enough for a progress bar."""


@app.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("case.toml")) -> None:
    """Write a commented case to start from."""
    from sublet.desk.template import write_template

    write_template(path)
    say(f"Wrote {path}. Next: sublet desk report {path}")


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="hyperscaler, neocloud, university, sovereign or enterprise.")],
    path: Annotated[Path | None, typer.Argument(help="The file to write; by default KIND.toml.")] = None,
) -> None:
    """Write a case for a kind of owner: a dozen numbers to replace, and a full page of brief as it is."""
    from sublet.desk.starters import write_starter

    target = path or Path(f"{kind}.toml")
    write_starter(kind, target)
    say(f"Wrote {target}. Next: sublet desk brief {target}")


@app.command()
def values(
    case: Case,
    as_json: JsonFlag = False,
    prefix: Annotated[str, typer.Option(help="Show only names that start with this.")] = "",
) -> None:
    """Show every value of a case with unit, status, source and formula."""
    found = {name: value for name, value in _opened(case).values().items() if name.startswith(prefix)}
    if as_json:
        print_json(found)
        return
    rows = [
        {"name": name, **value, "value": _content(value["value"]), "marks": "; ".join(value.get("marks", []))}
        for name, value in found.items()
    ]
    keys = ("name", "value", "unit", "status", "source", "formula", "marks")
    print_rows(rows, {key: key for key in keys}, f"no value starts with {prefix!r}")


@app.command()
def explain(
    case: Case, name: Annotated[str, typer.Argument(help="A value's name.")], as_json: JsonFlag = False
) -> None:
    """Show the tree behind a value, down to its sources."""
    desk = _opened(case)
    for problem in desk.problems:
        if problem.name == name:
            from sublet.desk.errors import CalculationError

            raise CalculationError(problem.message)
    explanation = desk.sheet.explain(name)
    if as_json:
        print_json(_explained(explanation))
        return
    from rich.tree import Tree

    from sublet.screen import Screen

    tree = Tree(_line(explanation.value), guide_style="dim")
    _grow(tree, explanation)
    Screen(markup=False, highlight=False).print(tree)


@app.command()
def report(
    case: Case,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write to.")] = Path(),
    language: Annotated[
        list[str] | None,
        typer.Option("--language", "-l", help="A page in en, zh-Hant or zh-Hans; give it once for each. Default: en."),
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option("--pdf", help="Also print the first page to this file, with Chromium.")
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Print what is folded, too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the case's report: an HTML page for each language, one XLSX with live formulas, one JSON."""
    from sublet.desk.report.pdf import print_page
    from sublet.desk.service import write_reports

    languages = _languages(language or ["en"])
    desk = _opened(case)
    written = write_reports(desk, out, languages)
    if pdf is not None:
        print_page(written.html.read_text(encoding="utf-8"), pdf, whole)
    _tell(problem.message for problem in written.problems[len(desk.problems) :])
    if as_json:
        files = {"html": str(written.html), "xlsx": str(written.xlsx), "json": str(written.json)}
        pages = {"pages": dict(zip(languages, map(str, written.pages), strict=True))}
        print_json(files | pages | ({"pdf": str(pdf)} if pdf is not None else {}))
        return
    for path in (*written.pages, written.xlsx, written.json, *([pdf] if pdf is not None else [])):
        say(str(path))


def _languages(asked: list[str]) -> list[str]:
    from sublet.desk.desk import LANGUAGES
    from sublet.desk.errors import CaseError

    for name in asked:
        if name not in LANGUAGES:
            raise CaseError(f"the desk does not support language {name!r}; use one of {', '.join(LANGUAGES)}")
    return list(dict.fromkeys(asked))


@app.command()
def decide(
    case: Case,
    advice: Annotated[
        Path | None,
        typer.Option("--advice", help="What `sublet block advise --json` printed: decides for each block in it."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Decide whether to lease a block or keep it: what leasing brings, and the rent at which both come to the same."""
    from sublet.desk.errors import CaseError
    from sublet.desk.report.wording import Wording
    from sublet.desk.sections.decision import blocks, read_advice

    desk = _opened(case)
    found = desk.decision
    if found is None:
        raise CaseError(f"{case}: the case has no [decision]; docs/desk.md lists what it needs")
    w = Wording(desk)
    chosen = blocks(found, desk.sheet, read_advice(advice)) if advice is not None else []
    if as_json:
        values = {name: desk.sheet[name].as_dict() for name in found.rows}
        print_json({"decision": values, "blocks": [asdict(block) for block in chosen]})
        return
    rows = [{"what": w.name(name), "value": w.quantity(desk.sheet[name])} for name in found.rows]
    print_rows(rows, {"what": "", "value": "value"}, "nothing to decide")
    if advice is not None:
        unit = desk.sheet[found.result].unit
        listed = [
            {
                "block": block.label, "displaced": f"{block.displaced:.1%}", "lease": w.number(block.indifference, "USD/W-yr"),
                "over": w.number(block.result, unit), "basis": block.basis,
            }
            for block in chosen
        ]  # fmt: skip
        heads: dict[str, str] = {
            "block": "block", "displaced": "displaced, 90 %", "lease": "lease above", "over": "leasing less keeping",
            "basis": "basis",
        }  # fmt: skip
        say()
        print_rows(listed, heads, "no block of the advice has enough history")


@app.command()
def mc(
    case: Case,
    samples: Annotated[
        int | None, typer.Option(min=1000, max=SAMPLES_MAX, help="Number of samples; by default the case's own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed; by default the case's own.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sample the case's distributions: quantiles of its results, and contributions to variance."""
    from rich.progress import Progress

    from sublet.desk.service import run_simulation
    from sublet.screen import Screen

    desk = _opened(case)
    count = samples or (desk.simulation.samples if desk.simulation is not None else 0)
    with Progress(console=Screen(stderr=True), disable=count < _PROGRESS_FROM) as progress:
        task = progress.add_task("drawing", total=count)
        found = run_simulation(desk, samples, seed, lambda done: progress.advance(task, done))
    _reserve(desk, [item.name for item in found])
    if as_json:
        print_json([_simulated(item, desk.sheet[item.name].unit) for item in found])
        return
    columns = {item.name: f"{desk.title(item.name)}, {desk.sheet[item.name].unit}" for item in found}
    rows: list[dict[str, str]] = [
        {"what": "mean", **{item.name: figure(item.mean) for item in found}},
        {"what": "standard deviation", **{item.name: figure(item.sd) for item in found}},
        {"what": "below zero", **{item.name: f"{item.below_zero:.1%}" for item in found}},
    ]
    rows += [
        {"what": f"{point:.0%}", **{item.name: figure(item.quantiles[point]) for item in found}}
        for point in found[0].quantiles
    ]
    print_rows(rows, {"what": "", **columns}, "nothing was drawn")
    say()
    inputs = dict.fromkeys(name for item in found for name in item.contributions)
    shares = [
        {"what": desk.title(name), **{item.name: f"{item.contributions.get(name, 0.0):.1%}" for item in found}}
        for name in inputs
    ]
    print_rows(shares, {"what": "contribution to variance", **{item.name: item.name for item in found}}, "")


@app.command()
def sensitivity(
    case: Case,
    result: Annotated[str, typer.Argument(help="The result's name.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="Move only this input; give it once for each. Default: all of them."),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="An input to move down a grid; needs --columns.")] = None,
    columns: Annotated[str | None, typer.Option(help="An input to move across the grid.")] = None,
    points: Annotated[int, typer.Option(min=2, max=25, help="Values of each of the two.")] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Show how a result follows any of its inputs: each moved alone, and two together on a grid."""
    from sublet.desk.sensitivity import ends_of, grid, swings
    from sublet.desk.sensitivity import points as spaced

    if (rows is None) != (columns is None):
        raise InvalidInputError("--rows and --columns name the two inputs of a grid; give both or neither")
    desk = _opened(case)
    sheet = desk.sheet
    found = swings(sheet, result, inputs or ())
    _reserve(desk, [result])
    pair = None
    if rows is not None and columns is not None:
        down, across = (spaced(*ends_of(sheet, name)[:2], points) for name in (rows, columns))
        cells = grid(sheet, result, (rows, down), (columns, across))
        pair = {"rows": rows, "row_values": down, "columns": columns, "column_values": across, "cells": cells}
    if as_json:
        print_json(
            {"result": result, "unit": sheet[result].unit, "swings": [asdict(swing) for swing in found], "grid": pair}
        )
        return
    heads = {
        "input": "input",
        "unit": "unit",
        "low": "low",
        "high": "high",
        "at_low": "result at low",
        "at_high": "result at high",
        "ends": "low and high from",
    }
    told = [
        {
            **{key: figure(value) if isinstance(value, float) else value for key, value in asdict(swing).items()},
            "unit": sheet[swing.input].unit,
        }
        for swing in found
    ]
    if sheet[result].is_number:
        say(f"{result} = {figure(sheet[result].number)} {sheet[result].unit}")
    print_rows(told, heads, f"no input moves {result!r}")
    if pair is not None:
        say()
        names = {"row": f"{rows} \\ {columns}", **{f"c{place}": figure(value) for place, value in enumerate(across)}}
        lines = [
            {"row": figure(value), **{f"c{place}": figure(cell) for place, cell in enumerate(line)}}
            for value, line in zip(down, cells, strict=True)
        ]
        print_rows(lines, names, "")


@app.command()
def diff(
    before: Case,
    after: Annotated[Path, typer.Argument(help="The other case.")],
    result: Annotated[
        list[str] | None, typer.Option(help="Results to explain; by default the headline results.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what changed between two cases, and how much of each result's change each assumption explains."""
    from sublet.desk.comparison import compare

    old, new = _opened(before), _opened(after)
    found = compare(old, new, result or ())
    _reserve(new, [item.name for item in found.results])
    inputs = [
        {"name": item.name, "unit": item.unit, "before": item.before, "after": item.after} for item in found.inputs
    ]
    if as_json:
        print_json({
            "inputs": inputs,
            "formulas": [{"name": name, "before": one, "after": other} for name, one, other in found.formulas],
            "results": [
                {"name": item.name, "unit": item.unit, "before": item.before, "after": item.after, "change": item.change,
                 "parts": dict(item.parts), "exact": item.is_exact}
                for item in found.results
            ],
        })  # fmt: skip
        return
    rows: list[dict[str, Any]] = [
        {**row, "before": _or_none(item.before), "after": _or_none(item.after)}
        for row, item in zip(inputs, found.inputs, strict=True)
    ]
    rows += [{"name": name, "before": one, "after": other, "unit": "formula"} for name, one, other in found.formulas]
    columns = {"name": "assumption", "before": "before", "after": "after", "unit": "unit"}
    print_rows(rows, columns, "no assumptions or formulas differ")
    say()
    explained = []
    for item in found.results:
        total = {"result": new.title(item.name), "before": figure(item.before), "after": figure(item.after)}
        explained.append({**total, "by": "all changes", "change": figure(item.change)})
        explained += [{"result": "", "by": name, "change": figure(part)} for name, part in item.parts.items()]
    columns = {"result": "result", "before": "before", "after": "after", "by": "explained by", "change": "change"}
    print_rows(explained, columns, "no result differs")


@app.command()
def brief(
    case: Case,
    language: Annotated[str, typer.Option(help="One of en, zh-Hant, zh-Hans.")] = "en",
    as_json: JsonFlag = False,
) -> None:
    """Print a one-page briefing: the claim, what the numbers say, where sources disagree, and what would change the answer."""
    from sublet.desk.briefing import brief as briefing_text
    from sublet.desk.desk import LANGUAGES
    from sublet.desk.errors import CaseError

    if language not in LANGUAGES:
        raise CaseError(f"the desk does not support language {language!r}; use one of {', '.join(LANGUAGES)}")
    text = briefing_text(_opened(case), language)
    if as_json:
        sentences = [{"part": item.part, "text": item.text, "values": list(item.values)} for item in text.sentences]
        print_json({"title": text.title, "language": language, "sentences": sentences})
        return
    say(text.render())


@app.command()
def check(case: Case, as_json: JsonFlag = False) -> None:
    """Check a case before you share it; exit code 1 if something can't be calculated.

    Results that can't be calculated, implausible numbers, statements that contradict each other,
    assumptions without a reason, old sources, and inputs that nothing uses.
    """
    from sublet.desk.desk import open_case
    from sublet.desk.review import review

    found = review(open_case(case))
    if as_json:
        print_json(
            [{"kind": item.kind, "name": item.name, "line": item.line, "message": item.message} for item in found]
        )
    else:
        rows = [{"kind": item.kind, "line": item.line or "", "name": item.name, "what": item.message} for item in found]
        print_rows(rows, {key: key for key in ("kind", "line", "name", "what")}, "no findings")
    if any(item.kind == "problem" for item in found):
        raise typer.Exit(1)


def _opened(case: Path) -> Desk:
    """The case; what can't be calculated in it, and implausible numbers, are told on standard error."""
    from sublet.desk.desk import open_case
    from sublet.desk.plausible import doubts

    desk = open_case(case)
    _tell(problem.message for problem in desk.problems)
    _tell(f"{doubt.file or desk.path}:{doubt.line}: {doubt.message}" for doubt in doubts(desk.sheet))
    return desk


def _reserve(desk: Desk, names: Iterable[str]) -> None:
    """What results say of themselves, where a command prints their numbers alone."""
    _tell(f"{name}: {mark}" for name in names for mark in desk.sheet[name].marks)


def _tell(messages: Iterable[str]) -> None:
    for message in messages:
        say(f"Warning: {message}", err=True)


@app.command()
def formulas(as_json: JsonFlag = False) -> None:
    """List the formulas that a case's own formulas may call, with the units that they take and give."""
    from sublet.desk.formulas import FORMULAS

    found = {
        name: {"unit": item.unit, "takes": item.units, "meaning": item.meaning}
        for name, item in sorted(FORMULAS.items())
    }
    if as_json:
        print_json(found)
        return
    rows = []
    for name, item in found.items():
        takes = item["takes"]
        assert isinstance(takes, Mapping)
        given = ", ".join(f"{key} [{unit}]" for key, unit in takes.items())
        rows.append(
            {"name": name, "takes": given, "unit": item["unit"], "meaning": str(item["meaning"]).partition("\n")[0]}
        )
    print_rows(rows, {"name": "formula", "takes": "takes", "unit": "gives", "meaning": "meaning"}, "")


@app.command()
def actuals(
    days: Annotated[int, typer.Option(min=1, max=3660, help="Number of past days.")] = 30,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the page to this HTML file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show actual earnings from the running Sublet that you are logged in to."""
    remote = connect()
    if out is not None:
        page = b"".join(remote.bytes("system.actuals_page", query={"days": days}))
        try:
            out.write_bytes(page)
        except OSError as error:
            raise InvalidInputError(
                f"{out}: the page can't be written there ({error.strerror}); choose a different file with --out"
            ) from error
    found = remote.document("system.actuals_figures", query={"days": days})
    if as_json:
        print_json(found)
        return
    for each in (found, *found.get("other_currencies", ())):
        show_actuals(each, days)


def _simulated(item: SimulatedResult, unit: str) -> dict[str, Any]:
    return {
        "name": item.name, "unit": unit, "samples": item.samples, "mean": item.mean, "sd": item.sd,
        "standard_error": item.standard_error, "below_zero": item.below_zero,
        "quantiles": {str(point): number for point, number in item.quantiles.items()},
        "explained": item.explained,
        "contributions": dict(item.contributions),
    }  # fmt: skip


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
        more = "".join(f"\n  {words}" for words in (value.note, *value.marks) if words)
        return f"{head}\n  = {value.formula}{more}"
    extent = f", range {value.range}" if value.range is not None else ""
    how = f"\n  {value.formula}" if value.formula else ""
    return f"{head}{extent}\n  {value.source}, {value.date}{how}" + (f"\n  {value.note}" if value.note else "")


def _content(value: Any) -> str:
    return figure(value, 6) if isinstance(value, float) else "none" if value is None else str(value)


def _or_none(number: float | None) -> str:
    return "not there" if number is None else figure(number, 6)
