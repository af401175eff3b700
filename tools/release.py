"""Makes a release's files: `release.py FOLDER` writes the wheel, its SHA-256 and its bill of materials (CycloneDX JSON) there.

The wheel is built twice and refused unless both are the same to the byte: its times are those of the last commit, so anybody
can build it again. The bill names Sublet and the packages that it needs when it runs, in the versions of this environment; what
only tests and tools need is left out. `cyclonedx-py` must stand beside the interpreter that runs this (requirements-release.txt).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def time_of_commit() -> str:
    """Seconds since 1970, of the last commit. Raises CalledProcessError outside a repository: set SOURCE_DATE_EPOCH there."""
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def wheel(python: str, folder: Path) -> Path:
    """The wheel that this commit makes, built by `python`, whose environment has hatchling."""
    moment = os.environ.get("SOURCE_DATE_EPOCH") or time_of_commit()
    subprocess.run(
        [python, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "-w",
         str(folder), "."],
        cwd=ROOT, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": moment},
    )  # fmt: skip
    (built,) = folder.glob("sublet-*.whl")
    return built


_CLOSURE = """
import importlib.metadata as m, json, sys
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
seen, waiting = set(), [("sublet", "")]
while waiting:
    name, extra = waiting.pop()
    if (name, extra) not in seen:
        seen.add((name, extra))
        for line in m.requires(name) or []:
            asked = Requirement(line)
            if asked.marker is None or asked.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(asked.name), one) for one in ("", *asked.extras)]
json.dump(sorted({name for name, _ in seen}), sys.stdout)
"""


def needed(environment: str) -> set[str]:
    """The names of the packages that Sublet needs when it runs, by what is installed beside the interpreter `environment`."""
    done = subprocess.run([environment, "-c", _CLOSURE], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def bill(environment: str) -> dict[str, Any]:
    """The bill of materials of what Sublet needs when it runs, from what is installed beside the interpreter `environment`."""
    made = subprocess.run(
        [str(Path(sys.executable).parent / "cyclonedx-py"), "environment", environment, "--pyproject",
         "pyproject.toml", "--output-reproducible", "--of", "JSON"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    whole: dict[str, Any] = json.loads(made.stdout)
    runs = needed(environment)
    whole["components"] = [
        item for item in whole["components"] if plain_name(item["name"]) in runs and item["name"] != "sublet"
    ]
    refs = {item["bom-ref"] for item in whole["components"]}
    root = whole["metadata"]["component"]["bom-ref"]
    whole["dependencies"] = [
        {**item, "dependsOn": [ref for ref in item.get("dependsOn", []) if ref in refs]}
        for item in whole["dependencies"]
        if item["ref"] in refs or item["ref"] == root
    ]
    return whole


def plain_name(name: str) -> str:
    """A package's name in its one normal form (Python packaging's specification of names)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    folder, python = Path(sys.argv[1]), sys.argv[2]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as once, tempfile.TemporaryDirectory() as again:
        first, second = wheel(python, Path(once)), wheel(python, Path(again))
        if first.read_bytes() != second.read_bytes():
            print("the wheel built twice differs: something in it depends on when or where it is built")
            return 1
        made = folder / first.name
        made.write_bytes(first.read_bytes())
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    (folder / f"{made.name}.sha256").write_text(f"{digest}  {made.name}\n")
    found = bill(python)
    (folder / "sublet.cdx.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(f"{made.name} {digest}, the same when built again; sublet.cdx.json names {len(found['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
