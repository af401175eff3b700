"""What if: a case's results with some of its numbers moved, within milliseconds, as a scenario that can be shared and kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sublet.desk.desk import Desk, build_case, open_case
from sublet.desk.documents import parse_document
from sublet.desk.report.wording import Wording
from sublet.desk.template import template_text
from sublet.values.errors import InvalidInputError

CONTROLS_MAX = 12
RESULTS_MAX = 24
STEPS = 100
"""A slider has about so many steps, of a round size."""
TERM = "term"
TERM_YEARS = (0.25, 10.0)


@dataclass(frozen=True, slots=True)
class Control:
    """A number that can be moved: its name in the case, its ends, and where the case has it."""

    name: str
    label: str
    unit: str
    low: float
    high: float
    step: float
    base: float


@dataclass(frozen=True, slots=True)
class Result:
    """A result before and after, as people write it."""

    name: str
    label: str
    before: str
    after: str
    changed: bool


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Everything that a page needs. `settings` are the chosen numbers by control; `scenario` is TOML for the case."""

    title: str
    as_of: str
    controls: tuple[Control, ...]
    settings: Mapping[str, float]
    words: Mapping[str, str]
    results: tuple[Result, ...]
    scenario: str
    address: str


class Cases:
    """The case behind the page: read again when a file that it is made of changes. Without a path, the starter of Sublet."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: tuple[Mapping[str, tuple[int, int]], Desk] | None = None

    def desk(self) -> Desk:
        """The case. Raises CaseError with file and line where it can't be used."""
        kept, path = self._kept, self._path
        if kept is not None and (path is None or kept[0] == _stamps(kept[0])):
            return kept[1]
        if path is None:
            desk = build_case(parse_document(template_text().encode(), "starter.toml"))
            self._kept = ({}, desk)
            return desk
        before = {} if kept is None else _stamps(kept[0])
        desk = open_case(path)
        # A file that was changed while it was read has an older stamp here, and is read again.
        stamps = _stamps([str(path), *desk.files])
        self._kept = ({file: before.get(file, stamp) for file, stamp in stamps.items()}, desk)
        return desk


def _stamps(files: Iterable[str]) -> dict[str, tuple[int, int]]:
    """When each file was changed last, and its size; zeros where it is not there."""
    found = {}
    for file in files:
        try:
            status = Path(file).stat()
        except OSError:
            found[file] = (0, 0)
            continue
        found[file] = (status.st_mtime_ns, status.st_size)
    return found


def controls(desk: Desk, language: str = "en") -> tuple[Control, ...]:
    """What can be moved: the bridge's power and price, every input of its tornado, and the term."""
    bridge = desk.bridge
    if bridge is None:
        raise InvalidInputError(f"{desk.path}: the case has no [bridge], so there is nothing to move; add one")
    w = Wording(desk, language)
    ends = {bar.input: (bar.low, bar.high) for bar in bridge.tornado}
    sheet = desk.sheet
    power = 1 / sheet.number_in(bridge.power, "MW") * sheet[bridge.power].number
    price = 1 / sheet.number_in(bridge.price, "USD/W-yr") * sheet[bridge.price].number
    ends.setdefault(bridge.power, (min(bridge.axis_power) * power, max(bridge.axis_power) * power))
    ends.setdefault(bridge.price, (min(bridge.axis_price) * price, max(bridge.axis_price) * price))
    found = []
    for name in dict.fromkeys((bridge.price, bridge.power, *ends)):
        value, (low, high) = sheet[name], sorted(ends[name])
        low, high = min(low, value.number), max(high, value.number)
        label = w.name(name)
        found.append(
            Control(
                name,
                label[:1].upper() + label[1:],
                value.unit.partition(",")[0],
                low,
                high,
                _step(high - low),
                value.number,
            )
        )
    term = Control(TERM, w("Term"), "years", *TERM_YEARS, 0.25, 1.0)
    return (*found[: CONTROLS_MAX - 1], term)


def what_if(desk: Desk, asked: Mapping[str, str], language: str = "en") -> WhatIf:
    """The case with the numbers in `asked` by control, in words of a language.

    Raises InvalidInputError for one that is not a number in its range.
    """
    w = Wording(desk, language)
    movable = controls(desk, language)
    settings = {control.name: _number(control, asked.get(control.name), w) for control in movable}
    chosen = {
        control.name: settings[control.name]
        for control in movable
        if control.name != TERM and settings[control.name] != control.base
    }
    # As in the tornado, what isn't moved stays: a cost that is calculated from the price must not follow the slider.
    held = {c.name: settings[c.name] for c in movable if c.name != TERM and desk.sheet[c.name].term is not None}
    moved = held | chosen if chosen else {}
    assert desk.bridge is not None
    names = [desk.bridge.result, *(name for _, name in desk.bridge.break_evens)]
    names += [] if desk.decision is None else list(desk.decision.rows)
    names += [name for name in desk.heading.results if desk.sheet[name].is_number]
    results = []
    for name in list(dict.fromkeys(names))[:RESULTS_MAX]:
        value = desk.sheet[name]
        after = desk.sheet.recalculated(name, moved) if moved else value.number
        words = (w.number(value.number, value.unit), w.number(after, value.unit))
        results.append(
            Result(
                name,
                w.reserved(w.name(name), value),
                *words,
                changed=not math.isclose(after, value.number, rel_tol=1e-9),
            )
        )
    main = desk.sheet[desk.bridge.result]
    years, yearly = settings[TERM], desk.sheet.recalculated(main.name, moved) if moved else main.number
    before, whole = w.number(main.number, main.unit), w.number(yearly * years, main.unit)
    results.insert(1, Result("", w("the same over the whole term"), before, whole, changed=before != whole))
    shown = {
        control.name: w.number(settings[control.name], desk.sheet[control.name].unit)
        for control in movable
        if control.name != TERM
    }
    term = w.number(years, "years")
    shown[TERM] = "1 year" if term == "1 years" else term
    address = "&".join(
        f"{name}={number:.6g}" for name, number in (chosen | ({TERM: years} if years != 1 else {})).items()
    )
    title = w.called(desk.heading.title)
    return WhatIf(
        title, w.day(desk.heading.as_of), movable, settings, shown, tuple(results), _scenario(moved), address
    )  # fmt: skip


def _number(control: Control, text: str | None, w: Wording) -> float:
    if text is None or not text.strip():
        return control.base
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not control.low <= number <= control.high:
        ends = [w.number(end, control.unit) for end in (control.low, control.high)]
        given = w(
            "{a} is {b}; give a number from {c} to {d} ({e} to {f})",
            a=control.label, b=repr(text[:40]), c=f"{control.low:g}", d=f"{control.high:g}", e=ends[0], f=ends[1],
        )  # fmt: skip
        raise InvalidInputError(given, field=control.name)
    return number


def _step(width: float) -> float:
    rough = width / STEPS
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def _scenario(moved: Mapping[str, float]) -> str:
    """A `[[scenarios]]` of a case; empty where nothing was moved."""
    if not moved:
        return ""
    sets = ", ".join(f'"{name}" = {number:.6g}' for name, number in moved.items())
    return f'[[scenarios]]\nid = "what-if"\ntitle = "what if"\nset = {{ {sets} }}\n'
