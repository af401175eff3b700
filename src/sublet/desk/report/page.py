"""One self-contained HTML page: no network, no script, charts inline, sensible on A4.

The first screen answers; what has ids, formulas and hashes in it opens at a click.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby

from sublet.desk.desk import Desk
from sublet.desk.digits import figure
from sublet.desk.report.answer import answer
from sublet.desk.report.blocks import (
    NARROW,
    PAIRED,
    WIDE,
    Answer,
    Block,
    Cell,
    Draw,
    Figure,
    Paragraph,
    Ref,
    Section,
    TableBlock,
)
from sublet.desk.report.numbers import tools
from sublet.desk.report.wording import Wording
from sublet.desk.reservations import reservations
from sublet.desk.sheet import STATUS_MEANINGS, Sheet, Status, Value

_DATE = re.compile(r"\d{4}-\d\d(-\d\d)?")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

WIDE_CELL = 48
"""A column with a longer text than this is set smaller, and may break anywhere."""

LIST_ROWS_MAX = 8
"""A longer list of label and value is set in two columns."""

CARD_COLUMNS = 3
"""From so many columns a table becomes a card for each row on a telephone."""


def render(desk: Desk, parts: Sequence[Section], version: str, w: Wording | None = None) -> str:
    """The whole report as HTML."""
    w = w or Wording(desk)
    heading = desk.heading
    meta = {
        w("Owner"): w.called(heading.owner),
        w("As of"): heading.as_of.isoformat(),
        w("Case"): w("{a} version {b}", a=heading.name, b=heading.version),
        w("Case hash"): desk.digest[:16],
        "Sublet": version,
    }
    return render_page(w.called(heading.title), meta, parts, Paper(desk.sheet, w), answer(desk, w))


NOTE_SIGNS = ("*", "**", "***", "****")
"""For what several numbers of a table say of themselves; a table with more kinds of reservations says the rest in its cells."""


class Paper:
    """The sheet that a page's numbers are in, and the words it is told in."""

    def __init__(self, sheet: Sheet, w: Wording) -> None:
        self.sheet, self.w = sheet, w


def render_page(
    title: str, meta: Mapping[str, str], parts: Sequence[Section], paper: Paper, first: Answer | None = None
) -> str:
    """Sections as a page; used for a case's report and for the page of actuals alike."""
    w, sheet = paper.w, paper.sheet
    css = resources.files("sublet.desk.report").joinpath("report.css").read_text(encoding="utf-8")
    facts = escape(" · ".join(f"{key}: {value}" for key, value in meta.items()))
    links = "".join(f'<a href="#{part.id}">{escape(part.title)}</a>' for part in parts)
    anchored = "numbers" in {part.id for part in parts}
    body = "".join(_section(part, paper, anchored) for part in parts)
    figures = [block for part in parts for block in part.blocks if isinstance(block, Figure)]
    switches = "".join(
        f".switch input:nth-of-type({number}):checked ~ .variant:nth-of-type({number}) {{ display: block; }}"
        for number in range(1, max((len(block.variants) for block in figures), default=0) + 1)
    )
    legend = "".join(
        f"<span>{_badge(status, w)} {escape(w(meaning))}</span>" for status, meaning in STATUS_MEANINGS.items()
    ) if len(sheet) else ""  # fmt: skip
    top = _first_screen(first, w) if first is not None else f'<p class="meta">{facts}</p>'
    return (
        f'<!doctype html><html lang="{w.language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{css}{switches}</style></head><body>"
        f'<nav class="side"><b>{escape(w("Contents"))}</b>{links}</nav><main>'
        f'<header id="answer"><h1>{escape(title)}</h1>{top}</header>'
        f'<details class="toc"><summary>{escape(w("Contents"))}</summary>{links}</details>{body}'
        f"<footer>{f'<p class=legend>{legend}</p>' if legend else ''}<p>{facts}</p></footer></main></body></html>\n"
    )


def _first_screen(first: Answer, w: Wording) -> str:
    said = "".join(f"<p>{escape(text)}</p>" for text in first.sentences)
    tiles = "".join(
        f"<li><b>{escape(tile.number)}</b><span>{escape(tile.label)}</span><i>{escape(tile.status)}</i></li>"
        for tile in first.tiles
    )
    changes = "".join(f"<li>{escape(text)}</li>" for text in first.changes)
    change = f'<h2>{escape(w("What would change it"))}</h2><ul class="changes">{changes}</ul>' if changes else ""
    return (
        f'<div class="said">{said}</div><ul class="tiles">{tiles}</ul>{change}<p class="meta">{escape(first.line)}</p>'
    )


def _section(part: Section, paper: Paper, anchored: bool) -> str:
    lead = f'<p class="lead">{_prose(part.lead, paper)}</p>' if part.lead else ""
    html = []
    for is_figure, group in groupby(part.blocks, key=lambda block: isinstance(block, Figure)):
        blocks = list(group)
        if is_figure:
            html.append(_figures(part.id, [block for block in blocks if isinstance(block, Figure)], paper))
        else:
            html += [_block(block, paper, anchored and part.id != "numbers", part.id == "numbers") for block in blocks]
    title, inside = escape(part.title), "".join(html)
    if part.id == "numbers":
        inside = tools(paper.sheet, paper.w) + inside
    if part.is_folded:
        return (
            f'<section id="{part.id}"><details class="fold part"><summary><h2>{title}</h2></summary>{lead}{inside}</details>'
            "</section>"
        )
    return f'<section id="{part.id}"><div class="head"><h2>{title}</h2>{lead}</div>{inside}</section>'


def _figures(id_: str, blocks: Sequence[Figure], paper: Paper) -> str:
    """Figures that need the width stand alone, and so does one that has no other to stand beside it."""
    html, waiting = [], list[str]()
    narrow = sum(not block.is_wide for block in blocks)
    alone = narrow % 2
    for number, block in enumerate(blocks):
        key = f"{id_}-{number}"
        last = not any(not other.is_wide for other in blocks[number + 1 :])
        if block.is_wide or (alone and last and not waiting):
            html.append(_figure(block, paper, key, WIDE))
            continue
        waiting.append(_figure(block, paper, key, PAIRED))
        if len(waiting) == 2:
            html.append(f'<div class="figures">{"".join(waiting)}</div>')
            waiting = []
    if waiting:
        html.append(f'<div class="figures">{"".join(waiting)}</div>')
    return "".join(html)


def _block(block: Block, paper: Paper, linked: bool, defines: bool) -> str:
    if isinstance(block, Paragraph):
        css = f' class="{block.tone}"' if block.tone else ""
        return f"<p{css}>{_prose(block.text, paper)}</p>"
    assert isinstance(block, TableBlock)
    table = _tables(block, paper, linked, defines)
    if block.folded:
        return f'<details class="fold"><summary>{escape(block.folded)}</summary>{table}</details>'
    return table


def _tables(block: TableBlock, paper: Paper, linked: bool, defines: bool) -> str:
    if len(block.columns) == 2 and len(block.rows) > LIST_ROWS_MAX:
        half = -(-len(block.rows) // 2)
        halves = [
            TableBlock(block.columns, block.rows[:half], block.caption),
            TableBlock(block.columns, block.rows[half:]),
        ]
        return f'<div class="figures">{"".join(_table(part, paper, linked, defines) for part in halves)}</div>'
    return _table(block, paper, linked, defines)


def _table(block: TableBlock, paper: Paper, linked: bool, defines: bool) -> str:
    right = _columns_of_numbers(block)
    head = "".join(
        f'<th class="right">{escape(column)}</th>' if place in right else f"<th>{escape(column)}</th>"
        for place, column in enumerate(block.columns)
    )
    rows = []
    notes = _notes(block, paper)
    wide = {
        place for row in block.rows for place, cell in enumerate(row) if isinstance(cell, str) and len(cell) > WIDE_CELL
    }
    for row in block.rows:
        anchor = ""
        if defines:
            of = next((paper.sheet[cell.name].status for cell in row if isinstance(cell, Ref)), "")
            anchor = f' id="v-{escape(str(row[0]), quote=True)}" data-status="{of}"'
        cells = "".join(
            _cell(
                cell,
                paper,
                linked,
                _Look("key" if place == 0 else "long" if place in wide else "", place in right, label, notes),
            )
            for place, (cell, label) in enumerate(zip(row, block.columns, strict=True))
        )
        rows.append(f"<tr{anchor}>{cells}</tr>")
    caption = f"<caption>{_prose(block.caption, paper)}</caption>" if block.caption else ""
    css = ' class="pair"' if len(block.columns) == 2 else ' class="cards"' if len(block.columns) >= CARD_COLUMNS else ""
    below = "".join(f'<span class="doubt">{sign} {escape(words)}</span>' for words, sign in notes.items())
    table = f"<table{css}>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll">{table}{below}</div>'


def _notes(block: TableBlock, paper: Paper) -> dict[str, str]:
    """Reservations that several numbers of a table have, each with the sign that stands for it: said once, below the table."""
    cells = (cell for row in block.rows for cell in row if isinstance(cell, Ref))
    told = [words for cell in cells for words in reservations(paper.sheet[cell.name].marks, paper.w.language)]
    several = [words for words in dict.fromkeys(told) if told.count(words) > 1]
    return dict(zip(several, NOTE_SIGNS, strict=False))


def _columns_of_numbers(block: TableBlock) -> frozenset[int]:
    """The columns to compare digit below digit: nothing but numbers in them. A list of names and values is read across."""
    if len(block.columns) == 2:
        return frozenset()
    return frozenset(
        place
        for place in range(1, len(block.columns))
        if block.rows and all(isinstance(row[place], Ref | float | int) for row in block.rows)
    )


class _Look:
    """How a cell is set: its class, whether numbers stand at the right, the label that a card gives it, and the table's notes."""

    def __init__(self, css: str, right: bool, label: str, notes: Mapping[str, str]) -> None:
        self.css, self.right, self.label, self.notes = css, right, label, notes


def _cell(cell: Cell, paper: Paper, linked: bool, look: _Look) -> str:
    label = f' data-label="{escape(look.label, quote=True)}"'
    number = "num right" if look.right else "num"
    if isinstance(cell, Ref):
        return f'<td class="{number}"{label}>{_number(paper, cell, linked, look.notes)}</td>'
    if isinstance(cell, float | int):
        return f'<td class="{number}"{label}>{figure(float(cell))}</td>'
    kind = "num" if _DATE.fullmatch(cell) else look.css
    css = f' class="{kind}"' if kind else ""
    return f"<td{css}{label}>{escape(cell)}</td>"


def _number(paper: Paper, cell: Ref, linked: bool, notes: Mapping[str, str]) -> str:
    w, value = paper.w, paper.sheet[cell.name]
    if not value.is_number:
        return escape(str(value.content))
    text = escape(w.number(value.number, value.unit)) if linked else figure(value.number, cell.digits)
    title = escape(f"{value.name}: {value.status}; {value.source}; {value.date}", quote=True)
    shown = f'<a class="v" href="#v-{escape(value.name, quote=True)}" title="{title}">{text}</a>' if linked else text
    told = reservations(value.marks, w.language)
    signs = "".join(
        f'<sup title="{escape(words, quote=True)}">{notes[words]}</sup>' for words in told if words in notes
    )
    doubts = "; ".join(words for words in told if words not in notes)
    doubt = signs + (f'<span class="doubt">{escape(doubts)}</span>' if doubts else "")
    return f"{shown}{_badge(value.status, w)}{doubt}"


def _badge(status: Status, w: Wording) -> str:
    """The first letter of a status, or the first character of its word, with the word behind it."""
    word = w(STATUS_MEANINGS[status])
    letter = str(status)[0].upper() if w.language == "en" else w(f"badge: {status}")
    return f'<span class="st st-{status}" title="{escape(word, quote=True)}">{escape(letter)}</span>'


def _figure(block: Figure, paper: Paper, id_: str, width: int) -> str:
    css = ' class="single"' if width == WIDE else ""
    caption = f"<figcaption>{_prose(block.caption, paper)}</figcaption>"
    if not block.variants:
        return f"<figure{css}>{_drawn(block.draw, width)}{caption}</figure>"
    inputs = []
    for number, (title, _) in enumerate(block.variants):
        checked = " checked" if number == 0 else ""
        key = f"{id_}-{number}"
        inputs.append(
            f'<input type="radio" name="{id_}" id="{key}"{checked}><label for="{key}">{escape(title)}</label>'
        )
    drawn = [
        f'<div class="variant"><h4>{escape(title)}</h4>{_drawn(draw, width)}</div>' for title, draw in block.variants
    ]
    return f'<figure{css}><div class="switch">{"".join(inputs)}{"".join(drawn)}</div>{caption}</figure>'


def _drawn(draw: Draw, width: int) -> str:
    """The chart twice: for the page, and for a telephone or half a sheet of paper."""
    return f'<div class="chart full">{draw(width)}</div><div class="chart small">{draw(NARROW)}</div>'


def _prose(text: str, paper: Paper) -> str:
    def replaced(piece: str) -> str:
        found = _PLACEHOLDER.match(piece)
        name = found[1].partition("|")[0] if found else ""
        return f"<b>{escape(paper.w.quantity(paper.sheet[name]))}</b>" if name in paper.sheet else escape(piece)

    return "".join(
        replaced(piece) if piece.startswith("{") else escape(piece).replace("`", "")
        for piece in re.split(r"(\{[^{}]+\})", text)
    )


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
