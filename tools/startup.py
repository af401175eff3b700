"""What a command loads before it does anything: heavy modules are imported where they are used.

`commands` and `client` import nothing heavy when they are loaded, neither themselves nor by a module of Sublet that they import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGES = ("commands", "client")
STARTED = ("cli", "output", "shown")
HEAVY = frozenset(
    {
        "alembic",
        "asyncio",
        "asyncpg",
        "asyncssh",
        "cryptography",
        "fastapi",
        "fontTools",
        "httpx2",
        "jinja2",
        "matplotlib",
        "numpy",
        "openpyxl",
        "prometheus_client",
        "psycopg",
        "pyarrow",
        "pydantic",
        "pydantic_core",
        "pydantic_settings",
        "rich",
        "scipy",
        "sqlalchemy",
        "starlette",
        "structlog",
        "uvicorn",
        "xlsxwriter",
    }
)
"""Each takes from 15 to 400 ms of a core to import (`python -X importtime`)."""
EAGER = frozenset({"sublet.client.asynchronous"})
"""Loaded only when somebody asks for it by name."""


def breaches(source: Path) -> Iterator[str]:
    """Each heavy import of a module in PACKAGES or STARTED, with the way to it. `source` is the folder that holds `sublet`."""
    known = {name: _imports(path, name) for name, path in _modules(source)}
    for name in sorted(known):
        part = name.split(".")[1] if "." in name else ""
        if part not in PACKAGES + STARTED or name in EAGER:
            continue
        told: set[tuple[int, str]] = set()
        for way, line in _heavy(name, known):
            heavy = way[-1].partition(".")[0]
            if (line, heavy) in told:
                continue
            told.add((line, heavy))
            place = source.name + "/" + name.replace(".", "/")
            suffix = "/__init__.py" if (source / name.replace(".", "/")).is_dir() else ".py"
            yield f"{place}{suffix}:{line}: loads {' → '.join(way)}; import it in the function that needs it"


def _heavy(name: str, known: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[list[str], int]]:
    """The heavy modules that `name` loads, each with one way there and the line where it begins."""
    seen = {name}
    pending = [([target], line) for target, line in known[name].items()]
    while pending:
        way, line = pending.pop(0)
        last = way[-1]
        if last.partition(".")[0] in HEAVY:
            yield way, line
        elif last in known and last not in seen:
            seen.add(last)
            pending += [([*way, target], line) for target in known[last]]


def _modules(source: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted((source / "sublet").rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(path: Path, name: str) -> dict[str, int]:
    """What a module imports when it is loaded, with the lines: modules, and what their packages import."""
    found: dict[str, int] = {}
    pending: list[ast.stmt] = list(ast.parse(path.read_text(), str(path)).body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [base, *(f"{base}.{item.name}" for item in node.names)]
        else:
            names = []
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _for_types(node):
                pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        for target in names:
            parts = target.split(".")
            for end in range(1, len(parts) + 1):
                found.setdefault(".".join(parts[:end]), node.lineno)
    found.pop(name, None)
    return found


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
