"""Tables on terminals of any width, and values as people write them: nothing wider than the terminal, no broken word."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet import output, shown
from sublet.output import note, print_fields, print_rows, say_error

IDS = ["lse_hr2ehdbjk42j9whb8044mfp5", "lse_000000000000000000000000"]
ROWS = [
    {
        "id": IDS[0],
        "state": "active",
        "start": "2026-07-02T14:00:00Z",
        "end": "2026-12-02T14:00:30Z",
        "total": "12.400000000",
        "currency": "USD",
        "org": "org_hr2ehdbjk42j9whb8044mfp5",
        "why": "the owner needs them for the training of the big model until 2026-07-03T09:30:00Z",
        "gone": None,
    },
    {"id": IDS[1], "state": "ended", "start": None, "end": None, "total": None, "org": None, "why": "", "gone": None},
]
COLUMNS: shown.Columns = {
    "id": "lease",
    "state": "state",
    "start": shown.time("start"),
    "end": shown.seconds("end"),
    "total": shown.money("total", "currency"),
    "org": shown.short("tenant"),
    "why": "reason",
    "gone": "gone",
}


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    del os.environ["TZ"]
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 120, 200])
def test_a_table_fits_and_breaks_no_word(terminal: Any, capsys: pytest.CaptureFixture[str], columns: int) -> None:
    terminal(columns)
    print_rows(ROWS, COLUMNS, "")
    printed = capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert max(map(len, printed.splitlines())) <= max(columns, output.WIDTH_MIN)
    words = printed.split()
    for whole in (IDS[0], "training", "16:00", "org_hr2ehd…", "12.40", "USD"):
        assert whole in words
    assert "gone" not in words, "a column in which nothing stands takes no room"


def test_in_a_pipe_every_column_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, "")
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[-1] == "gone" and second.split()[-1] == "–"
    assert "2026-07-02 16:00 CEST" not in first and "start (CEST)" in head and "2026-12-02 15:00:30" in first


def test_zones_stand_with_their_times_where_they_differ(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [{"at": "2026-07-02T14:00:00Z"}, {"at": "2026-12-02T14:00:00Z"}, {"at": None}]
    print_rows(rows, {"at": shown.time("at")}, "")
    assert capsys.readouterr().out.splitlines() == ["at", "2026-07-02 16:00 CEST", "2026-12-02 15:00 CET", "–"]
    print_rows(rows[:1], {"at": shown.seconds("at")}, "")
    assert capsys.readouterr().out.splitlines()[1] == "2026-07-02 16:00", "whole minutes need no seconds"


def test_sentences_have_local_times_and_are_folded(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    note("from 2026-07-02T14:00:00.5Z on")
    assert capsys.readouterr().out == "  from 2026-07-02 16:00 CEST on\n"
    say_error("start at 2026-07-02T14:00:27.123456Z")
    assert capsys.readouterr().err == "start at 2026-07-02 16:00:27 CEST\n"
    terminal(60)
    note("word " * 30)
    print_fields({"name": "x", "a longer name": "word " * 30, "digest": None})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60 and "a longer name  word word" in "\n".join(lines)
    assert lines[-1].split() == ["digest", "–"] and "name           x" in lines


@given(st.lists(st.tuples(st.text(max_size=90), st.text(max_size=40)), min_size=1, max_size=4), st.integers(60, 140))
def test_whatever_stands_in_it_a_row_is_as_wide_as_the_terminal_or_one_word(
    rows: list[tuple[str, str]], columns: int
) -> None:
    before = os.environ.get("COLUMNS"), sys.stdout.isatty
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "terminal_width", lambda: columns)
        patch.setattr("sublet.output.typer.echo", printed.append)
        print_rows([{"a": one, "b": other} for one, other in rows], {"a": "first", "b": "second"}, "")
    assert before == (os.environ.get("COLUMNS"), sys.stdout.isatty)
    longest = max(output._width(word) for line in printed for word in [*line.split(), ""])
    for line in "\n".join(printed).replace("\x1b[1m", "").replace("\x1b[0m", "").split("\n"):
        assert output._width(line) <= max(columns, longest + 12)


@pytest.mark.parametrize(
    ("amount", "money", "price"),
    [
        ("25.000000000", "25.00", "25.00"),
        ("1.1", "1.10", "1.10"),
        ("0.003512345", "0.0035", "0.003512345"),
        ("-0.000322222", "-0.00032", "-0.000322222"),
        ("499.999677778", "500.00", "499.999677778"),
        ("0.000000000", "0.00", "0.00"),
        ("0.009999", "0.01", "0.009999"),
        ("1234567.891", "1234567.89", "1234567.891"),
        (None, "–", "–"),
        ("none", "none", "none"),
    ],
)
def test_amounts_have_the_digits_that_matter(amount: str | None, money: str, price: str) -> None:
    assert (shown.money_text(amount), shown.price_text(amount)) == (money, price)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("0.02 USD per 3600 Seconds", "0.02 USD per hour"),
        ("0.020000000 EUR per 3600 Seconds less 5 %", "0.02 EUR per hour less 5 %"),
        ("0.15 USD per 1000000 Tokens", "0.15 USD per 1,000,000 tokens"),
        ("0.5 USD per 1 Requests", "0.50 USD per request"),
        ("3 USD per 86400 Seconds", "3.00 USD per 24 hours"),
        ("", ""),
        ("as agreed", "as agreed"),
    ],
)
def test_prices_are_told_in_words(words: str, told: str) -> None:
    assert shown.per_words(words) == told


def test_quantities_and_spans() -> None:
    quantities = (("9000.000", "Seconds"), ("28", "Seconds"), ("0", "Seconds"), ("1234", "Tokens"), ("1.5", "kWh"))
    assert [shown.quantity_text(*item) for item in quantities] == [
        "2.50 h",
        "28 s",
        "0.00 h",
        "1,234 tokens",
        "1.50 kWh",
    ]
    assert [shown.span_text(item) for item in (0, 45, 5400, 86_400, 90_061)] == [
        "0 s",
        "45 s",
        "1 h 30 min",
        "1 d",
        "1 d 1 h",
    ]
