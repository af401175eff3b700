"""The last line of a run counts what ran, and a run without tests is a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.docs.manual import tool

tally = tool("tally")


def _report(folder: Path, name: str, **counts: int) -> str:
    attributes = " ".join(f'{key}="{value}"' for key, value in counts.items())
    path = folder / name
    path.write_text(f"<testsuites><testsuite {attributes}/></testsuites>")
    return str(path)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tally.py", *arguments])
    code: int = tally.main()
    return code


def test_reports_are_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = [_report(tmp_path, "a.xml", tests=5, skipped=1), _report(tmp_path, "b.xml", tests=3)]
    assert _run(monkeypatch, "0", *reports) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "7 passed, 0 failed, 1 skipped"


@pytest.mark.parametrize(
    ("steps", "counts", "line"),
    [
        ("0", {"tests": 5, "failures": 1, "errors": 1}, "3 passed, 2 failed, 0 skipped"),
        ("2", {"tests": 5}, "5 passed, 2 failed, 0 skipped"),
        ("0", {"tests": 0}, "0 passed, 1 failed, 0 skipped"),
        ("0", {"tests": 2, "skipped": 2}, "0 passed, 1 failed, 2 skipped"),
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
    assert _run(monkeypatch, steps, _report(tmp_path, "a.xml", **counts), str(tmp_path / "missing.xml")) == 1
    assert capsys.readouterr().out.splitlines()[-1] == line
