"""Adds up pytest's reports: `tally.py FAILED_STEPS NOT_RUN REPORT.xml...` ends with `N passed, N failed, N skipped`, and exits 1
on a failure.

A test that stands in several reports counts as in the last of them; one that failed before and then passed is named. So is each
line of the file NOT_RUN: a suite or a check that could not be had on this machine, and why.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


def outcomes(reports: list[str]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The last outcome of each test, and the names of those that passed at the second try alone."""
    found: dict[tuple[str, str], str] = {}
    unsteady = []
    for name in reports:
        if not Path(name).is_file():
            continue
        for case in ElementTree.parse(name).iter("testcase"):
            key = case.get("classname", ""), case.get("name", "")
            bad = case.find("failure") is not None or case.find("error") is not None
            outcome = FAILED if bad else SKIPPED if case.find("skipped") is not None else PASSED
            if found.get(key) == FAILED and outcome == PASSED:
                unsteady.append("::".join(key))
            found[key] = outcome
    return found, unsteady


def main() -> int:
    failed_steps = int(sys.argv[1])
    not_run = Path(sys.argv[2]).read_text().splitlines() if Path(sys.argv[2]).is_file() else []
    found, unsteady = outcomes(sys.argv[3:])
    counts = [sum(outcome == wanted for outcome in found.values()) for wanted in (PASSED, FAILED, SKIPPED)]
    passed, failed, skipped = counts
    for name in unsteady:
        print(f"unsteady: {name} failed and then passed; mend it")
    for line in not_run:
        print(f"not run: {line}")
    if failed_steps:
        print(f"{failed_steps} steps failed")
    failed = max(failed, failed_steps)
    if not passed:
        print("no test ran")
        failed = max(failed, 1)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
