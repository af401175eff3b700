"""What checks a release: the coverage of what decides, and the answer of an advisory database."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.docs.manual import tool

covered, audited, release = tool("covered"), tool("audited"), tool("release")


def _run(module: Any, monkeypatch: pytest.MonkeyPatch, report: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["tool", str(report)])
    code: int = module.main()
    return code


def _summary(ran: int, of: int) -> dict[str, Any]:
    return {"summary": {"covered_lines": ran, "num_statements": of, "covered_branches": 0, "num_branches": 0}}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("src/sublet/leases/model.py", 1),
        ("src/sublet/leases/plan/planner.py", 1),
        ("src/sublet/leases/plan/order.py", 1),
        ("src/sublet/surplus/rule/depth.py", 1),
        ("src/sublet/fleet/node_model.py", 1),
        ("src/sublet/leases/store.py", 0),
        ("src/sublet/console/model.py", 0),
        ("src/sublet/leases/ports.py", 0),
    ],
)
def test_what_decides_has_a_floor(
    name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "coverage.json"
    report.write_text(json.dumps({"files": {name: _summary(94, 100), "src/sublet/api/build.py": _summary(0, 100)}}))
    assert _run(covered, monkeypatch, report) == code
    printed = capsys.readouterr().out
    assert "47.0 %" in printed and (f"{name}: 94.0 %" in printed) == bool(code)
    report.write_text(json.dumps({"files": {name: _summary(95, 100)}}))
    assert _run(covered, monkeypatch, report) == 0


def _package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1", **more}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([_package("a", vulns=[])], 0, "1 packages looked up, 0 known vulnerabilities"),
        ([_package("a", vulns=[{"id": "CVE-1", "fix_versions": ["2"]}])], 1, "a 1: CVE-1, mended in 2"),
        ([_package("a", vulns=[]), {"name": "b", "skip_reason": "not found"}], 0, "b: not looked up: not found"),
        ([{"name": "b", "skip_reason": "not found"}], 3, ""),
    ],
)
def test_an_audit_without_an_answer_is_not_an_audit(
    packages: list[dict[str, Any]],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = tmp_path / "audit.json"
    assert _run(audited, monkeypatch, report) == 3
    report.write_text(json.dumps({"dependencies": packages}))
    assert _run(audited, monkeypatch, report) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Typing_Extensions", "typing.extensions", "typing-_extensions"])
def test_a_package_has_one_name(name: str) -> None:
    assert release.plain_name(name) == "typing-extensions"


def test_the_bill_names_what_runs_and_not_what_tests() -> None:
    names = release.needed(sys.executable)
    assert {"sublet", "sqlalchemy", "psycopg-binary", "starlette"} <= names and not {"pytest", "mypy"} & names
