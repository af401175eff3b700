"""Syntax trees for the rules, each made once: several rules read the same files, and parsing and walking them takes the time."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


def tree_of(path: Path) -> ast.Module:
    """The tree of a file as it is now. Whoever asks again gets the same one, so nobody may change it."""
    return _parsed(path.read_text(), str(path))


@cache
def nodes_of(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Every node of a tree, itself included, in the order of `ast.walk`."""
    return tuple(ast.walk(tree))


@cache
def _parsed(source: str, name: str) -> ast.Module:
    return ast.parse(source, name)
