"""One self-contained HTML page: no network, no script, charts inline, sensible on A4."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby

from sublet.desk.desk import Desk
from sublet.desk.digits import figure
from sublet.desk.report.blocks import Block, Cell, Figure, Paragraph, Ref, Section, TableBlock
from sublet.desk.sheet import STATUS_MEANINGS, Sheet, Status, Value

_DATE = re.compile(r"\d{4}-\d\d(-\d\d)?")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

WIDE_CELL = 48
"""A column with a longer text than this is set smaller, and may break anywhere."""

LIST_ROWS_MAX = 8
"""A longer list of label and value is set in two columns."""


def render(desk: Desk, parts: Sequence[Section], version: str) -> str:
    """The whole report as HTML."""
    heading = desk.heading
    meta = {
        "Owner": heading.owner,
        "As of": heading.as_of.isoformat(),
        "Case": f"{heading.name} version {heading.version}",
        "Case hash": desk.digest[:16],
        "Sublet": version,
    }
    return render_page(heading.title, meta, parts, desk.sheet)


def render_page(title: str, meta: Mapping[str, str], parts: Sequence[Section], sheet: Sheet) -> str:
    """Sections as a page; used for a case's report and for the page of actuals alike."""
    css = resources.files("sublet.desk.report").joinpath("report.css").read_text(encoding="utf-8")
    facts = "".join(f"<span>{escape(key)}: <b>{escape(value)}</b></span>" for key, value in meta.items())
    legend = "".join(
        f"<span>{_badge(status)} {status}: {meaning}</span>" for status, meaning in STATUS_MEANINGS.items()
    ) if len(sheet) else ""  # fmt: skip
    links = "".join(f'<a href="#{part.id}">{escape(part.title)}</a>' for part in parts)
    anchored = "numbers" in {part.id for part in parts}
    body = "".join(_section(part, sheet, anchored) for part in parts)
    figures = [block for part in parts for block in part.blocks if isinstance(block, Figure)]
    switches = "".join(
        f".switch input:nth-of-type({number}):checked ~ .variant:nth-of-type({number}) {{ display: block; }}"
        for number in range(1, max((len(block.variants) for block in figures), default=0) + 1)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}{switches}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="meta">{facts}</p>'
        f"{f'<div class=legend>{legend}</div>' if legend else ''}<nav>{links}</nav></header>{body}"
        f"<footer>{escape(' · '.join(f'{key}: {value}' for key, value in meta.items()))}</footer></main></body></html>\n"
    )


def _section(part: Section, sheet: Sheet, anchored: bool) -> str:
    html = [
        f'<section id="{part.id}"><div class="head"><h2>{escape(part.title)}</h2><p class="lead">{_prose(part.lead, sheet)}</p></div>'
    ]
    for is_figure, group in groupby(part.blocks, key=lambda block: isinstance(block, Figure)):
        blocks = list(group)
        if is_figure:
            figures = [
                _figure(block, sheet, f"{part.id}-{number}")
                for number, block in enumerate(blocks)
                if isinstance(block, Figure)
            ]
            alone = figures[0].replace("<figure", '<figure class="single"', 1)
            html.append(f'<div class="figures">{"".join(figures)}</div>' if len(figures) > 1 else alone)
        else:
            html += [_block(block, sheet, anchored and part.id != "numbers", part.id == "numbers") for block in blocks]
    return "".join([*html, "</section>"])


def _block(block: Block, sheet: Sheet, linked: bool, defines: bool) -> str:
    if isinstance(block, Paragraph):
        css = f' class="{block.tone}"' if block.tone else ""
        return f"<p{css}>{_prose(block.text, sheet)}</p>"
    assert isinstance(block, TableBlock)
    if len(block.columns) == 2 and len(block.rows) > LIST_ROWS_MAX:
        half = -(-len(block.rows) // 2)
        halves = [
            TableBlock(block.columns, block.rows[:half], block.caption),
            TableBlock(block.columns, block.rows[half:]),
        ]
        return f'<div class="figures">{"".join(_table(part, sheet, linked, defines) for part in halves)}</div>'
    return _table(block, sheet, linked, defines)


def _table(block: TableBlock, sheet: Sheet, linked: bool, defines: bool) -> str:
    right = _columns_of_numbers(block)
    head = "".join(
        f'<th class="right">{escape(column)}</th>' if place in right else f"<th>{escape(column)}</th>"
        for place, column in enumerate(block.columns)
    )
    rows = []
    wide = {
        place for row in block.rows for place, cell in enumerate(row) if isinstance(cell, str) and len(cell) > WIDE_CELL
    }
    for row in block.rows:
        anchor = f' id="v-{escape(str(row[0]), quote=True)}"' if defines else ""
        cells = "".join(
            _cell(cell, sheet, linked, "key" if place == 0 else "long" if place in wide else "", place in right)
            for place, cell in enumerate(row)
        )
        rows.append(f"<tr{anchor}>{cells}</tr>")
    caption = f"<caption>{_prose(block.caption, sheet)}</caption>" if block.caption else ""
    css = ' class="pair"' if len(block.columns) == 2 else ""
    return f'<div class="scroll"><table{css}>{caption}<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _columns_of_numbers(block: TableBlock) -> frozenset[int]:
    """The columns to compare digit below digit: nothing but numbers in them. A list of names and values is read across."""
    if len(block.columns) == 2:
        return frozenset()
    return frozenset(
        place
        for place in range(1, len(block.columns))
        if block.rows and all(isinstance(row[place], Ref | float | int) for row in block.rows)
    )


def _cell(cell: Cell, sheet: Sheet, linked: bool, css: str, right: bool) -> str:
    number = "num right" if right else "num"
    if isinstance(cell, Ref):
        return f'<td class="{number}">{_number(sheet[cell.name], cell.digits, linked)}</td>'
    if isinstance(cell, float | int):
        return f'<td class="{number}">{figure(float(cell))}</td>'
    kind = "num" if _DATE.fullmatch(cell) else css
    return f'<td class="{kind}">{escape(cell)}</td>' if kind else f"<td>{escape(cell)}</td>"


def _number(value: Value, digits: int, linked: bool) -> str:
    as_percent = linked and _is_fraction(value.unit)
    text = f"{value.number * 100:.3g} %" if as_percent else figure(value.number, digits)
    title = escape(f"{value.name}: {value.status}; {value.source}; {value.date}", quote=True)
    shown = f'<a class="v" href="#v-{escape(value.name, quote=True)}" title="{title}">{text}</a>' if linked else text
    unit = f' <span class="unit">{escape(_short_unit(value.unit))}</span>' if linked and not as_percent else ""
    doubts = "; ".join(map(str, value.marks))
    doubt = f'<span class="doubt" title="{escape(doubts, quote=True)}">{escape(doubts)}</span>' if doubts else ""
    return f"{shown}{unit}{_badge(value.status)}{doubt}"


def _badge(status: Status) -> str:
    return f'<span class="st st-{status}" title="{status}">{str(status)[0].upper()}</span>'


def _figure(block: Figure, sheet: Sheet, id_: str) -> str:
    caption = f"<figcaption>{_prose(block.caption, sheet)}</figcaption>"
    if not block.variants:
        return f"<figure>{block.svg}{caption}</figure>"
    inputs = []
    for number, (title, _) in enumerate(block.variants):
        checked = " checked" if number == 0 else ""
        key = f"{id_}-{number}"
        inputs.append(
            f'<input type="radio" name="{id_}" id="{key}"{checked}><label for="{key}">{escape(title)}</label>'
        )
    drawn = [f'<div class="variant"><h4>{escape(title)}</h4>{svg}</div>' for title, svg in block.variants]
    return f'<figure><div class="switch">{"".join(inputs)}{"".join(drawn)}</div>{caption}</figure>'


def _prose(text: str, sheet: Sheet) -> str:
    def replaced(match: re.Match[str]) -> str:
        name = match[1].partition("|")[0]
        return f"<b>{escape(quantity(sheet[name]))}</b>" if name in sheet else escape(match[0])

    return "".join(
        replaced(_match(piece)) if piece.startswith("{") else escape(piece).replace("`", "")
        for piece in re.split(r"(\{[^{}]+\})", text)
    )


def _match(piece: str) -> re.Match[str]:
    found = _PLACEHOLDER.match(piece)
    assert found is not None
    return found


def quantity(value: Value) -> str:
    """A value in running text, with its unit: `2.97 USD/share`, `33 %`; a reservation on it stands in brackets."""
    return " ".join([_bare_quantity(value), *(f"({words})" for words in value.marks)])


def _bare_quantity(value: Value) -> str:
    if not value.is_number:
        return str(value.content)
    if _is_fraction(value.unit):
        return f"{value.number * 100:.3g} %"
    if value.unit.startswith("%"):
        return f"{value.number:.3g} %"
    return f"{figure(value.number)} {_short_unit(value.unit)}".strip()


def _is_fraction(unit: str) -> bool:
    return unit == "rate" or unit.startswith(("share", "prob", "utilization"))


def _short_unit(unit: str) -> str:
    """Without the words after a comma, which the list of all numbers has."""
    return "" if unit in ("1", "0..1", "ratio") else unit.partition(",")[0]
