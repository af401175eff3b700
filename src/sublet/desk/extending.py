"""A scenario file: another case with some of its inputs changed, for a report of its own and to compare the two."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sublet.desk.documents import Document, Table, read_document
from sublet.desk.errors import nearest

EXTENDS = "extends"
DEPTH_MAX = 8
"""Files may extend one another so many times."""
_OWN = ("name", "title", "version", "as_of", "summary", "results")
"""What a scenario file may say of itself under [case]."""


def read_case(path: Path, depth: int = 0) -> tuple[Document, tuple[Document, ...]]:
    """A case's document, and the scenario files between it and `path`, that one first; none where `path` is a case of its own.

    Raises CaseError with file and line for an input that the case does not have, and for files that go round in a circle.
    """
    document = read_document(path)
    if EXTENDS not in document.data:
        return document, ()
    root = document.root()
    named = Path(root.text(EXTENDS))
    if named.is_absolute() or ".." in named.parts:
        raise root.fail(EXTENDS, f'{str(named)!r} must lie beside this file or below it; write it like "case.toml"')
    if depth == DEPTH_MAX:
        raise root.fail(EXTENDS, f"more than {DEPTH_MAX} files extend one another, or they go round in a circle")
    if not _is_file(path.parent / named):
        there = sorted(file.name for file in path.parent.glob("*.toml") if file.name != path.name)
        raise root.fail(EXTENDS, f"there is no file {str(named)!r} here; {nearest(str(named), there)}")
    base, between = read_case(path.parent / named, depth + 1)
    return _changed(base, root), (document, *between)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A name that is too long for the file system.
        return False


def _changed(base: Document, root: Table) -> Document:
    """The base with what a scenario file sets; its lines stay the base's."""
    root.known((EXTENDS, "case", "set"))
    data = dict(base.data)
    case = root.table("case")
    name_of_file = case.text("name")
    own = {key: case.data[key] for key in _OWN if case.has(key)}
    case.finish()
    # What the case itself has wrong is refused with its own file and line.
    whole = base.root()
    data["case"] = {**whole.table("case").data, **own, "name": name_of_file}
    source = f"scenario {name_of_file}"
    inputs: dict[str, Any] = {name: item.data for name, item in whole.named_tables("inputs")}
    inputs_in = dict(base.inputs_in)
    table = root.table("set")
    for name in table.data:
        if name not in inputs:
            parts = [f"{name}.{part}" for part in table.data[name]] if isinstance(table.data[name], dict) else []
            dotted = next((part for part in parts if part in inputs), None)
            advice = f'a name with dots in it stands in quotes: "{dotted}"' if dotted else nearest(name, inputs)
            raise table.fail(name, f"{name!r} is no input of {base.name}; {advice}")
        inputs[name] = {**inputs[name], **_input(table, name, source)}
        inputs_in[name] = (root.document.name, table.line(name))
    if not table.data:
        raise root.fail("set", 'nothing is set; write an input and its number under [set], as in "in.price" = 12')
    root.finish()
    data["inputs"] = inputs
    data["sources"] = {**whole.table("sources").data, source: _source(data["case"])}
    digest = hashlib.sha256(f"{base.digest} {root.document.digest}".encode()).hexdigest()
    return Document(base.name, data, base.lines, digest, (*base.files, root.document.name), inputs_in)


def _input(table: Table, name: str, source: str) -> Mapping[str, Any]:
    """What a scenario file says of an input: its number alone, an assumption of the file, or any keys of an input."""
    if isinstance(table.data[name], dict):
        return {"status": "assumption", "source": source, **table.data[name]}
    return {"value": table.number(name), "status": "assumption", "source": source}


def _source(case: Mapping[str, Any]) -> Mapping[str, Any]:
    title = f"assumption of the scenario {case['name']}"
    return {"title": title, "date": str(case.get("as_of", ""))}
