"""A report's page on paper: Chromium prints it, with everything folded left out unless it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from sublet.desk.errors import CaseError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PRINT_SECONDS_MAX = 120


def browser() -> str | None:
    """The path of a browser that can print, the first that is on the PATH."""
    return next((path for path in map(shutil.which, BROWSERS) if path is not None), None)


def print_page(html: str, target: Path, whole: bool = False) -> None:
    """Print a page to PDF, A4; with `whole`, everything that is folded is printed as well.

    Raises CaseError where there is no browser, it can't print, or the file can't be written.
    """
    found = browser()
    if found is None:
        raise CaseError(
            f"{target}: a PDF is printed by Chromium, which is not installed; install it (Debian: apt-get install chromium), "
            "or open the HTML page in any browser and print it"
        )
    with tempfile.TemporaryDirectory(prefix="sublet-desk-") as folder:
        page, printed = Path(folder) / "page.html", Path(folder) / "page.pdf"
        page.write_text(html.replace("<details", "<details open") if whole else html, encoding="utf-8")
        options = [
            "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={folder}/profile",
            f"--print-to-pdf={printed}",
        ]  # fmt: skip
        if os.geteuid() == 0:
            options.append("--no-sandbox")
        try:
            done = subprocess.run(
                [found, *options, page.as_uri()], capture_output=True, text=True, timeout=PRINT_SECONDS_MAX, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CaseError(f"{target}: {found} could not print the page; print the HTML page by hand") from error
        if not printed.exists():
            last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise CaseError(f"{target}: {found} could not print the page ({last}); print the HTML page by hand")
        try:
            shutil.copyfile(printed, target)
        except OSError as error:
            raise CaseError(
                f"{target}: the PDF can't be written there ({error.strerror}); name another file with --pdf"
            ) from error
