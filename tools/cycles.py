"""Finds circles of imports between modules: neither of two that import each other can be read, tested or changed alone.

Imports for type checkers and imports inside functions count as all others: they hide a circle from Python, not from the reader.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from trees import nodes_of, tree_of


def breaches(source: Path, package: str) -> Iterator[str]:
    """One line for each circle among the modules of `package`, which lies in `source`."""
    graph = imports(source, package)
    for circle in circles(graph):
        edges = (f"{one} imports {', '.join(sorted(graph[one] & set(circle)))}" for one in circle)
        yield f"{len(circle)} modules import each other: {'; '.join(edges)}"


def imports(source: Path, package: str) -> dict[str, set[str]]:
    """By module of `package`, the modules of it that it imports."""
    files = {name_of(path, source): path for path in sorted((source / package).rglob("*.py"))}
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = {target for wanted in _named(tree_of(path)) if (target := _known(wanted, files))}
        found[name].discard(name)
    return found


def name_of(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """The strongly connected parts of more than one module, each in order of names (Tarjan, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    for root in sorted(graph):
        work = [(root, iter(sorted(graph[root])))] if root not in index else []
        if work:
            index[root] = low[root] = len(index)
            stack.append(root)
        while work:
            node, targets = work[-1]
            target = next(targets, None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part = stack[stack.index(node) :]
                    del stack[stack.index(node) :]
                    if len(part) > 1:
                        yield sorted(part)
            elif target not in index:
                index[target] = low[target] = len(index)
                stack.append(target)
                work.append((target, iter(sorted(graph[target]))))
            elif target in stack:
                low[node] = min(low[node], index[target])


def _named(tree: ast.Module) -> Iterator[str]:
    for node in nodes_of(tree):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{item.name}" for item in node.names)


def _known(name: str, files: Mapping[str, Path]) -> str | None:
    """The module that `name` is or lies in."""
    while name:
        if name in files:
            return name
        name = name.rpartition(".")[0]
    return None
