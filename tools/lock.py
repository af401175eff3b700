"""Renews requirements.txt: every package that Sublet and its tools need, pinned by hash, for every supported Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    command = [
        "uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--extra", "demo", "--universal",
        "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links",
        "--no-header", "--upgrade", "-o", "requirements.txt", "-q",
    ]  # fmt: skip
    return subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
