"""What blocks would have cost their owner, as one self-contained page: no script, no network, readable in print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sublet.surplus.blocks.advice import LEVELS

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 40, 20, 44
TICKS = 4

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d0d7de;--soft:#57606a;--l50:#0b6e4f;--l90:#5b5f97;--l99:#c1440e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--line:#30363d;--soft:#9aa4af;--l50:#2ea878;--l90:#a3a7e8;--l99:#ff7b54}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;line-height:1.25;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:.5rem 0 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem 2rem}
svg{display:block;width:100%;max-width:34rem;height:auto}
text{font-size:12px;fill:var(--soft)}
.grid{stroke:var(--line);stroke-width:.75}
.cost{fill:none;stroke-width:2.5}
.c50{stroke:var(--l50)}.c90{stroke:var(--l90);stroke-dasharray:7 4}.c99{stroke:var(--l99);stroke-dasharray:2 4;stroke-linecap:round}
.p50{fill:var(--l50)}.p90{fill:var(--l90)}.p99{fill:var(--l99)}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;padding:0;list-style:none}
.key svg{display:inline-block;width:2.5rem;margin-right:.5rem;vertical-align:.2rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap}
.soft{color:var(--soft);font-size:.875rem;margin:.1rem 0 .4rem}
"""


def advice_page(found: Mapping[str, Any]) -> str:
    """The page of the answer of `blocks.advise`: a chart for each length, and every figure in a table."""
    rows: list[Mapping[str, Any]] = list(found["rows"])
    pool = escape(str(found["pool"]))
    charts = "".join(_chart(days, rows) for days in sorted({row["days"] for row in rows}))
    notes = "".join(f"<li>{escape(text)}</li>" for text in found["notes"])
    body = "\n".join(
        [
            f"<h1>What would blocks of {pool} have cost their owner?</h1>",
            f"<p>{pool} has {found['capacity']:,} accelerators, {found['standing']:,} of them in blocks now, and "
            f"{found['history_days']:.0f} days of history. A chart shows, for blocks of one length, how many accelerator-hours of the "
            "owner's own work would have had to wait.</p>",
            _key(),
            f'<div class="charts">{charts}</div>' if charts else "<p>No size fits beside the blocks that stand.</p>",
            f"<h2>About the history</h2><ul>{notes}</ul>" if notes else "",
            _table(rows),
        ]
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Blocks of {pool}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _key() -> str:
    said = {50: "in half of all spans, no more", 90: "in 9 of 10 spans, no more", 99: "in 99 of 100 spans, no more"}
    items = "".join(
        f'<li><svg viewBox="0 0 40 8" aria-hidden="true"><path class="cost c{level}" d="M0 4H40"/></svg>{level} %: {said[level]}</li>'
        for level in LEVELS
    )
    return f'<ul class="key">{items}</ul>'


def _chart(days: int, rows: Sequence[Mapping[str, Any]]) -> str:
    """Displaced hours against the size of the block, one line for each level. A block of nothing costs nothing."""
    mine = sorted((row for row in rows if row["days"] == days), key=lambda row: int(row["accelerators"]))
    lines = {
        level: [(0, 0.0)]
        + [
            (row["accelerators"], row[f"displaced_h_{level}"])
            for row in mine
            if row[f"displaced_h_{level}"] is not None
        ]
        for level in LEVELS
    }
    lines = {level: points for level, points in lines.items() if len(points) > 1}
    length = f"{days} {'day' if days == 1 else 'days'}"
    if not lines:
        return f"<section><h2>{length}</h2>{_basis(mine)}</section>"
    most: int = max(row["accelerators"] for row in mine)
    top = _round_up(max(value for points in lines.values() for _, value in points))

    def x(count: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * count / most

    def y(hours: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - hours / top)

    body = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(top * place / TICKS):.1f}" y2="{y(top * place / TICKS):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(top * place / TICKS) + 4:.1f}" text-anchor="end">{_short(top * place / TICKS)}</text>'
        for place in range(TICKS + 1)
    )
    body += "".join(
        f'<text x="{x(count):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{count:,}</text>'
        for count in _apart([0, *(row["accelerators"] for row in mine)], most)
    )
    body += (
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">accelerators in the block</text>'
    )
    for level, points in lines.items():
        path = "L".join(f"{x(count):.1f} {y(hours):.1f}" for count, hours in points)
        dots = "".join(
            f'<circle class="p{level}" cx="{x(count):.1f}" cy="{y(hours):.1f}" r="3.5"><title>{count:,} accelerators for {length}, '
            f"{level} %: {_hours(hours)} accelerator-hours</title></circle>"
            for count, hours in points[1:]
        )
        body += f'<path class="cost c{level}" d="M{path}"/>{dots}'
    title = f"Accelerator-hours displaced by blocks of {length}, by size"
    return (
        f'<section><h2>{length}: accelerator-hours displaced</h2>{_basis(mine)}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}"><title>{title}</title>{body}</svg></section>'
    )


def _basis(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the figures of one length stand on: the same for all sizes."""
    said = dict.fromkeys(str(row["sentence"]) for row in rows)
    return "".join(f'<p class="soft">{escape(text[:1].upper() + text[1:])}.</p>' for text in said)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{level} %</th>" for level in LEVELS)
    cells = "".join(
        f"<tr><td>{row['accelerators']:,}</td><td>{row['days']:,}</td>"
        + "".join(f"<td>{_hours(row[f'displaced_h_{level}'])}</td>" for level in LEVELS)
        + f"<td>{'–' if row['share_90'] is None else format(row['share_90'], '.1%')}</td></tr>"
        for row in rows
    )
    return (
        '<h2>In figures</h2><div class="wide"><table><thead><tr><th>accelerators</th><th>days</th>'
        f"{head}<th>of its hours, 90 %</th></tr></thead><tbody>{cells}</tbody></table></div>"
    )


def _hours(hours: float | None) -> str:
    return "–" if hours is None else f"{hours:,.0f}" if hours >= 10 or hours == int(hours) else f"{hours:.1f}"


def _short(hours: float) -> str:
    """A round number for an axis."""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if hours >= size:
            return f"{hours / size:g}{unit}"
    return f"{hours:g}"


def _round_up(value: float) -> float:
    """1, 2, 4 or 8 times a power of ten that is not below `value`: its quarters are round, too. 4 where nothing is displaced."""
    if value <= 0:
        return float(TICKS)
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(power * factor for factor in (1, 2, 4, 8, 10) if power * factor >= value * (1 - 1e-9)))


def _apart(counts: Sequence[int], most: int) -> list[int]:
    """Those whose labels don't touch, the largest in any case."""
    found = [most]
    for count in sorted(set(counts), reverse=True):
        if (found[-1] - count) / most >= 0.1:
            found.append(count)
    return found
