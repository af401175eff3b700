"""The last line of a run counts what ran, and a run without tests is a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.docs.manual import tool

tally = tool("tally")
NONE = "/nonexistent"


def _report(folder: Path, name: str, **counts: int) -> str:
    """A report of `counts` tests by outcome, named by outcome and number."""
    inside = {"failures": "<failure/>", "errors": "<error/>", "skipped": "<skipped/>", "passed": ""}
    cases = "".join(
        f'<testcase classname="t" name="{outcome}{number}">{inside[outcome]}</testcase>'
        for outcome, count in counts.items()
        for number in range(count)
    )
    path = folder / name
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return str(path)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tally.py", *arguments])
    code: int = tally.main()
    return code


def test_reports_are_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "b.xml"
    other.write_text('<testsuite><testcase classname="u" name="passed0"/></testsuite>')
    assert _run(monkeypatch, "0", NONE, _report(tmp_path, "a.xml", passed=4, skipped=1), str(other)) == 0
    assert capsys.readouterr().out.splitlines() == ["5 passed, 0 failed, 1 skipped"]


def test_what_passes_at_the_second_try_alone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "a.xml", tmp_path / "again.xml"
    first.write_text('<s><testcase classname="t" name="x"><failure/></testcase><testcase classname="t" name="y"/></s>')
    again.write_text('<s><testcase classname="t" name="x"/></s>')
    assert _run(monkeypatch, "0", NONE, str(first), str(again)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "unsteady: t::x failed and then passed; mend it",
        "2 passed, 0 failed, 0 skipped",
    ]
    again.write_text('<s><testcase classname="t" name="x"><failure/></testcase></s>')
    assert _run(monkeypatch, "0", NONE, str(first), str(again)) == 1


@pytest.mark.parametrize(
    ("steps", "counts", "line"),
    [
        ("0", {"passed": 3, "failures": 1, "errors": 1}, "3 passed, 2 failed, 0 skipped"),
        ("2", {"passed": 5}, "5 passed, 2 failed, 0 skipped"),
        ("0", {"passed": 0}, "0 passed, 1 failed, 0 skipped"),
        ("0", {"skipped": 2}, "0 passed, 1 failed, 2 skipped"),
    ],
)
def test_a_failure_a_failed_step_and_no_test_at_all_fail(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    steps: str,
    counts: dict[str, int],
    line: str,
) -> None:
    assert _run(monkeypatch, steps, NONE, _report(tmp_path, "a.xml", **counts), str(tmp_path / "missing.xml")) == 1
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_what_was_not_run_is_named_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left_out = tmp_path / "not-run"
    left_out.write_text("the FOCUS validator: no Python 3.12 here\n")
    assert _run(monkeypatch, "0", str(left_out), _report(tmp_path, "a.xml", passed=1)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "not run: the FOCUS validator: no Python 3.12 here",
        "1 passed, 0 failed, 0 skipped",
    ]
