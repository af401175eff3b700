"""Reads a report of pip-audit: `audited.py REPORT.json` prints what is known, and exits 1 for a vulnerability, 3 where no
advisory database answered, so that nothing was looked up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    path = Path(sys.argv[1])
    if not path.is_file() or not path.stat().st_size:
        return 3
    packages = json.loads(path.read_text())["dependencies"]
    looked_up = [package for package in packages if "skip_reason" not in package]
    for package in packages:
        if "skip_reason" in package and looked_up:
            print(f"{package['name']}: not looked up: {package['skip_reason']}")
    found = [(package, flaw) for package in looked_up for flaw in package["vulns"]]
    for package, flaw in found:
        mended = ", ".join(flaw["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {flaw['id']}, mended in {mended}")
    if not looked_up:
        return 3
    print(f"{len(looked_up)} packages looked up, {len(found)} known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
