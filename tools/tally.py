"""Adds up pytest's reports: `tally.py FAILED_STEPS REPORT.xml...` ends with `N passed, N failed, N skipped`, exits 1 on a failure."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def main() -> int:
    failed_steps = int(sys.argv[1])
    passed = failed = skipped = 0
    for name in sys.argv[2:]:
        if not Path(name).is_file():
            continue
        for suite in ElementTree.parse(name).iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            idle = int(suite.get("skipped", 0))
            failed += bad
            skipped += idle
            passed += int(suite.get("tests", 0)) - bad - idle
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
