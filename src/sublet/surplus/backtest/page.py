"""A backtest as one self-contained page: no script, no network, readable in print."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from sublet.surplus.backtest.backtest import OWN, Backtest
from sublet.surplus.backtest.charts import key, risk_curve, timeline
from sublet.surplus.backtest.classes import Tried

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d0d7de;--soft:#57606a;--demand:#8fa3b8;--sold:#0b6e4f;--bad:#c1440e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--line:#30363d;--soft:#9aa4af;--demand:#4b5d70;--sold:#2ea878;--bad:#ff7b54}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}
tr.own{font-weight:600}
.wide,.chart{overflow-x:auto}
svg{width:100%;min-width:40rem;height:auto;margin:.5rem 0}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1.2rem;margin:.25rem 0}
.key i{display:inline-block;width:.9rem;height:.9rem;border-radius:50%;margin-right:.4rem;vertical-align:-.1rem}
.demand{fill:var(--demand)}.sold{fill:var(--sold)}.capacity{fill:none;stroke:var(--ink);stroke-width:1.5}
.broken{fill:var(--bad)}.grid{stroke:var(--line);stroke-width:.5}.tick{font-size:11px;fill:var(--soft)}
.beyond{fill:var(--bad);opacity:.07}
.soft{color:var(--soft)}.over{color:var(--bad)}
"""

_LEGEND = (
    '<p class="soft">Blue-grey: the owner\'s demand. Green: sold, the longest windows darkest. Line: capacity. '
    "Dots: broken.</p>"
)


def page(result: Backtest, risk: float) -> str:
    """The whole page as HTML. `risk` is the share of promises that was allowed to break."""
    limit = 1000 * risk
    parts = [
        "<h1>How well would this surplus have been sold?</h1>",
        f"<p>Windows of one accelerator, started each hour from what was known by then. A share of 1 is what perfect "
        f"knowledge of the future would have honored. At most {limit:g} of 1,000 promises were to break.</p>",
        "<h2>All pools together</h2>",
        _table(result.pooled, limit),
        "<h2>Share against risk</h2>",
        _curves(result, limit),
        '<p class="soft">Left is safer, up is more sold; the tinted side breaks more than was allowed. Each line is one policy '
        "at several risks: Sublet at 2 to 50 accepted in 1,000, the simple ones at quantiles of 0.5 to 0.999. To sell "
        "everything has no risk to set: it is a point.</p>",
        "<h2>All window lengths as one ladder</h2>",
        _ladder(result.ladder, limit),
    ]
    for name, found in result.pools.items():
        parts.append(f"<h2>{escape(name)}</h2>")
        if name in result.runs:
            parts.append(timeline(*result.runs[name]))
            parts.append(_LEGEND)
        parts.append(_table(found, limit))
    if result.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
        parts.append(f"<h2>About the data</h2><ul>{notes}</ul>")
    return _whole(parts)


def class_page(tried: Sequence[Tried], risk: float) -> str:
    """The page of one class of service: what was sold of it against what was idle, and where its record stands."""
    limit = 1000 * risk
    head = "".join(
        f"<th>{name}</th>" for name in ("of the bound", "of all idle", "broken per 1,000", "worst hour", "state")
    )
    parts = [
        "<h1>What would this class have sold and kept?</h1>",
        f"<p>Each kind by itself, for endless buyers, within what its record had earned. At most {limit:g} of 1,000 promises "
        "were to break. The bound is what perfect knowledge would have honored in uninterrupted windows.</p>",
        f'<div class="wide"><table><thead><tr><th>pool and kind</th>{head}</tr></thead><tbody>',
    ]
    for item in tried:
        told = item.as_dict()
        mark = " class=over" if told["broken_per_1000"] > limit else ""
        parts.append(
            f"<tr><td>{escape(told['pool'])}, {escape(told['kind'])}</td><td>{told['share']:.3f}</td>"
            f"<td>{told['sold_share_of_idle']:.3f}</td><td{mark}>{told['broken_per_1000']:.1f}</td>"
            f"<td>{told['worst_hour']:,}</td><td>{escape(told['state'])}</td></tr>"
        )
    parts.append("</tbody></table></div>")
    for item in tried:
        told = item.as_dict()
        parts += [
            f"<h2>{escape(told['pool'])}, {escape(told['kind'])}</h2>",
            timeline(item.trace, item.outcome),
            _LEGEND,
            f"<p>{escape(told['verdict'])}.</p>",
        ]
    return _whole(parts)


def _whole(parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Backtest</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _table(found: dict[str, Any], limit: float) -> str:
    windows = list(next(iter(found.values()), {}))
    head = "".join(f"<th>{escape(window)}</th>" for window in windows)
    rows = ""
    for name, by in found.items():
        cells = "".join(_cell(by[window], limit) for window in windows)
        rows += f"<tr{' class=own' if name == OWN else ''}><td>{escape(name.replace('_', ' '))}</td>{cells}</tr>"
    return (
        f'<div class="wide"><table><thead><tr><th>share @ broken per 1,000</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(found: dict[str, Any], limit: float) -> str:
    mark = " class=over" if found["broken_per_1000"] > limit else ""
    return f"<td{mark}>{found['share']:.3f} @ {found['broken_per_1000']:.1f}</td>"


def _curves(result: Backtest, limit: float) -> str:
    charts = ""
    for window, points in result.curves.items():
        lines = {OWN: [(point["broken_per_1000"], point["share"]) for point in points]}
        drawn = result.baseline_curves.get(window, {})
        for name, by in result.pooled.items():
            if name != OWN and window in by:
                found = drawn.get(name, [by[window]])
                lines[name.replace("_", " ")] = [(point["broken_per_1000"], point["share"]) for point in found]
        charts += f"<h3>{escape(window)} windows</h3>{risk_curve(lines, limit)}{key(lines)}"
    return charts


def _ladder(ladder: dict[str, Any], limit: float) -> str:
    rows = ""
    for name, found in ladder.items():
        cells = "".join(
            f"<td{' class=over' if by['broken_per_1000'] > limit else ''}>"
            f"{by['honored_hours']:,} h @ {by['broken_per_1000']:.1f}</td>"
            for by in found["windows"].values()
        )
        rows += (
            f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{found['sold_share_of_idle']:.3f}</td>{cells}"
            f"<td>{found['lost_hours']:,}</td></tr>"
        )
    windows = list(next(iter(ladder.values()))["windows"]) if ladder else []
    head = "".join(f"<th>{escape(window)}</th>" for window in windows)
    return (
        '<div class="wide"><table><thead><tr><th>who breaks first</th><th>sold ÷ idle</th>'
        f"{head}<th>hours of work lost</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
