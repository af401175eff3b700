"""Finds queries of tables by a package that does not own them, and imports of another package's SQL.

Each module of `store/tables` belongs to the package of its name; the tables that no domain owns belong to the store. What others
may join with, the owner publishes as a selectable (`accounts.directory`, `fleet.inventory`). A module `store` or `…_store` is its
package's SQL: besides the owner, only the packages that put domains together call it, inside one transaction of several.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from trees import nodes_of, tree_of

TABLES = "sublet.store.tables"
OWNED_BY_STORE = {"audit", "idempotency", "outbox", "processes"}
COMPOSITION = {"wiring", "control", "reporting"}
_STATEMENT = re.compile(r"\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN)\b")


class Ownership:
    """Whose each table is, as the modules of `store/tables` under `source` say."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._owner_of: dict[str, str] = {}
        """By table, in the database's own words."""
        for path in sorted((source / "store" / "tables").glob("*.py")):
            for name in _tables_of(tree_of(path)):
                self._owner_of[name] = owner_of_module(path.stem)
        self._named = re.compile(r"\b(?:" + "|".join(sorted(self._owner_of, key=len, reverse=True)) + r")\b")

    def breaches(self, root: Path) -> Iterator[str]:
        """One line for each place, with its path from `root`."""
        for path in sorted(self._source.rglob("*.py")):
            inside = path.relative_to(self._source).parts
            if inside[0] == "store" and inside[1:2] in (("tables",), ("migrations",)):
                continue
            tree = tree_of(path)
            for line, what in self._of_module(inside[0].removesuffix(".py"), tree):
                yield f"{path.relative_to(root)}:{line}: {what}"

    def _of_module(self, package: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
        for node in nodes_of(tree):
            if isinstance(node, ast.ImportFrom | ast.Import):
                for module in _imported(node):
                    yield from ((node.lineno, what) for what in _import_breaches(package, module))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from ((node.lineno, what) for what in self._text_breaches(package, node.value))

    def _text_breaches(self, package: str, text: str) -> Iterator[str]:
        if _STATEMENT.search(text) and self._owner_of:
            for name in sorted(set(self._named.findall(text))):
                owner = self._owner_of[name]
                if owner != package and re.search(rf"\b(?:FROM|JOIN|INTO|UPDATE)\s+{name}\b", text):
                    yield f"SQL that names {name}, a table of {owner}; ask {owner} instead"


def owner_of_module(name: str) -> str:
    """The package that owns the tables of `store/tables/NAME.py`: of several modules, each begins with it and an underscore."""
    return "store" if name in OWNED_BY_STORE else name.partition("_")[0]


def _import_breaches(package: str, module: str) -> Iterator[str]:
    parts = module.split(".")
    if module.startswith(TABLES + "."):
        owner = owner_of_module(parts[3])
        if owner != package:
            yield f"reads tables of {owner}; ask {owner} instead"
    elif len(parts) > 2 and parts[0] == "sublet" and parts[1] not in (package, "store"):
        is_sql = any(part == "store" or part.endswith("_store") for part in parts[2:4])
        if is_sql and package not in COMPOSITION:
            yield f"imports the SQL of {parts[1]} ({module}); ask its service, or what it publishes"


def _imported(node: ast.ImportFrom | ast.Import) -> list[str]:
    """Every module that the statement may name: of `from a.b import c`, `a.b.c`."""
    if isinstance(node, ast.Import):
        return [item.name for item in node.names]
    return [f"{node.module}.{item.name}" for item in node.names] if node.module and not node.level else []


def _tables_of(tree: ast.Module) -> Iterator[str]:
    for node in nodes_of(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Table" and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
