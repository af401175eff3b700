"""Reading and recalculating XLSX files in tests, with nothing but the standard library and LibreOffice."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_ALWAYS_RECALCULATE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry" xmlns:xs="http://www.w3.org/2001/XMLSchema">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load"><prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value>
</prop></item></oor:items>"""


def read_numbers(path: Path) -> dict[tuple[str, str], tuple[float, bool]]:
    """Every numeric cell: (sheet, address) to its number and whether it is a formula's result."""
    with zipfile.ZipFile(path) as book:
        relations = ElementTree.fromstring(book.read("xl/_rels/workbook.xml.rels"))
        targets = {item.attrib["Id"]: item.attrib["Target"] for item in relations}
        sheets = ElementTree.fromstring(book.read("xl/workbook.xml")).iter(f"{_MAIN}sheet")
        found = {}
        for sheet in sheets:
            part = targets[sheet.attrib[_RELATION]].removeprefix("/xl/")
            for cell in ElementTree.fromstring(book.read(f"xl/{part}")).iter(f"{_MAIN}c"):
                value = cell.find(f"{_MAIN}v")
                if value is not None and value.text is not None and cell.attrib.get("t", "n") == "n":
                    address = re.sub(r"\$", "", cell.attrib["r"])
                    found[sheet.attrib["name"], address] = (float(value.text), cell.find(f"{_MAIN}f") is not None)
    return found


def recalculate(path: Path, folder: Path) -> Path:
    """The file after LibreOffice has opened it, recalculated every formula, and saved it."""
    profile = folder / "profile"
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(_ALWAYS_RECALCULATE)
    out = folder / "recalculated"
    subprocess.run(
        [
            "soffice",
            f"-env:UserInstallation=file://{profile}",
            "--headless",
            "--convert-to",
            "xlsx",
            "--outdir",
            str(out),
            str(path),
        ],
        check=True,
        capture_output=True,
        timeout=180,
    )
    return out / path.name
