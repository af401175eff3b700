"""What the tests cover: `covered.py COVERAGE.json` prints the share of lines and branches in all and by package, and exits 1
where a module that decides (a domain's model, plan or rule) is covered by less than FLOOR percent.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

FLOOR = 95.0
DECIDES = re.compile(
    r"src/sublet/(?!desk/|gateway/|console/|store/|values/)\w+/(?:.*/)?(?:\w*model|plan(?:ner|s)?|rules?)(?:\.py|/.+\.py)$"
)


def share(summary: dict[str, Any]) -> float:
    """Percent of lines and branches that were run, 100 where there is nothing to run."""
    ran = summary["covered_lines"] + summary["covered_branches"]
    all_ = summary["num_statements"] + summary["num_branches"]
    return 100.0 * ran / all_ if all_ else 100.0


def added(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("covered_lines", "covered_branches", "num_statements", "num_branches")
    return {name: sum(summary[name] for summary in summaries) for name in names}


def main() -> int:
    files = json.loads(Path(sys.argv[1]).read_text())["files"]
    packages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    low = []
    for name, found in sorted(files.items()):
        packages[name.split("/")[2] if name.count("/") > 2 else "sublet"].append(found["summary"])
        if DECIDES.search(name) and share(found["summary"]) < FLOOR:
            low.append((name, share(found["summary"])))
    print("  ".join(f"{package} {share(added(ones)):.1f}" for package, ones in sorted(packages.items())))
    whole = added([found["summary"] for found in files.values()])
    print(f"lines and branches covered by the tests without services: {share(whole):.1f} %")
    for name, percent in low:
        print(f"{name}: {percent:.1f} %, and what decides must be covered by {FLOOR:.0f}")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
