"""What commands print: a table that people can read and that other programs can cut, JSON that machines can read."""

from __future__ import annotations

import json

import pytest
from rich.tree import Tree

from sublet.output import print_json, print_rows, say, say_error
from sublet.screen import Screen


def test_json_in_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "Zürich", "price": "0.05"})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"name": "Zürich", "price": "0.05"}
    assert "Zürich" in printed


def test_without_rows_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], {"id": "id"}, "nothing yet")
    assert capsys.readouterr().out == "nothing yet\n"


def test_a_row_is_one_line_in_a_pipe_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"lse_{'x' * 24}{number}", "name": "n" * 120, "note": "word " * 20} for number in range(3)]
    print_rows(rows, {"id": "id", "name": "name", "note": "note"}, "")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for row, line in zip(rows, lines[1:], strict=True):
        assert line.split()[:2] == [row["id"], row["name"]]


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[red]alert[/red]", "[/]", ":smile:", "[link=x]y"]
    print_rows([{"name": name} for name in names], {"name": "name"}, "")
    assert capsys.readouterr().out.split()[1:] == names


def test_nothing_is_a_dash_and_a_list_is_joined(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"a": None, "b": ["x", "y"]}, {}], {"a": "a", "b": "b"}, "")
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["a", "b"], ["–", "x,", "y"], ["–", "–"]]


def test_numbers_stand_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"n": 5}, {"n": "-1.50"}, {"n": 12345}], {"n": "count"}, "")
    assert capsys.readouterr().out.splitlines() == ["count", "    5", "-1.50", "12345"]


HOSTILE = "a\x1b[2J\x1b]52;c;AAAA\x07b\u202ec\x9b31md\x00"


def test_what_others_wrote_is_shown_and_never_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    """On every way to the terminal: sentences, errors, tables, styled output, JSON."""
    say(HOSTILE)
    say(HOSTILE, err=True)
    say_error(HOSTILE)
    print_rows([{"name": HOSTILE}], {"name": "name"}, "")
    print_json({"name": HOSTILE})
    Screen().print(HOSTILE, markup=False)
    Screen().print(Tree(HOSTILE))
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "\\x1b[2J" in text or "\\u001b[2J" in text
        assert not [sign for sign in text if not sign.isprintable() and sign != "\n"]
    told = next(line for line in printed.out.splitlines() if line.startswith("{"))
    assert json.loads(told) == {"name": HOSTILE}, "the data is the same"
