"""Renews requirements.txt and requirements-release.txt, every package pinned by hash, for every supported Python.

The first holds what Sublet, its tests and its tools need; the second what a release is checked with, in an environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


WRITTEN = {
    "requirements.txt": ("pyproject.toml", "--extra", "dev", "--extra", "demo"),
    "requirements-release.txt": ("--group", "release"),
}


def main() -> int:
    for name in sys.argv[1:] or WRITTEN:
        command = [
            "uv", "pip", "compile", *WRITTEN[name], "--universal", "--python-version", "3.11",
            "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--upgrade", "-o", name, "-q",
        ]  # fmt: skip
        code = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]], cwd=ROOT, check=False
        ).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
