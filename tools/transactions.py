"""Finds reads and writes of the store that begin while the same thread has a connection already.

`Store` refuses them when they happen; this rule finds them before, as far as the source says which function is called: methods
of the same class, functions of the same module, and methods of attributes whose class the constructor names. A call that
passes a connection on is fine. So is none at all: a callable that was handed in can't be followed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trees import tree_of

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass
class Class:
    """What is known of a class: its methods, and the classes of its attributes."""

    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass
class Module:
    """One file's functions and classes."""

    name: Path
    tree: ast.Module
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    classes: dict[str, Class] = field(default_factory=dict)


class Sources:
    """Every module, and which of their functions take a connection of their own."""

    def __init__(self, modules: list[Module]) -> None:
        self.modules = modules
        self.classes: dict[str, tuple[Module, Class]] = {}
        for module in modules:
            for name, found in module.classes.items():
                self.classes[name] = (module, found)
        self.opening: set[int] = set()
        self._close_over()

    def breaches(self) -> Iterator[str]:
        for module in self.modules:
            for owner, function in _every_function(module):
                for where, what in self._inside(module, owner, function):
                    yield f"{module.name}:{where}: {what}"

    def _close_over(self) -> None:
        """Who opens a connection, and who calls somebody who does."""
        callers: dict[int, set[int]] = {}
        reached: list[int] = []
        for module in self.modules:
            for owner, function in _every_function(module):
                for call in (node for node in _own_nodes(function) if isinstance(node, ast.Call)):
                    if _opens(call):
                        reached.append(id(function))
                    elif (target := self._called_without_one(module, owner, call)) is not None:
                        callers.setdefault(id(target), set()).add(id(function))
        while reached:
            function_id = reached.pop()
            if function_id not in self.opening:
                self.opening.add(function_id)
                reached += callers.get(function_id, ())

    def _called_without_one(self, module: Module, owner: Class | None, call: ast.Call) -> ast.FunctionDef | None:
        """The function that a call reaches, if the call passes no connection on."""
        if any(_is_connection(value) for value in [*call.args, *(keyword.value for keyword in call.keywords)]):
            return None
        return self._resolve(module, owner, call.func)

    def _leads_to_one(self, module: Module, owner: Class | None, call: ast.Call) -> bool:
        target = self._called_without_one(module, owner, call)
        return target is not None and id(target) in self.opening

    def _resolve(self, module: Module, owner: Class | None, called: ast.expr) -> ast.FunctionDef | None:
        if isinstance(called, ast.Name):
            return module.functions.get(called.id)
        if not isinstance(called, ast.Attribute):
            return None
        held = called.value
        if isinstance(held, ast.Name) and held.id == "self" and owner is not None:
            return owner.methods.get(called.attr)
        kind = self._kind_of(owner, held)
        return kind.methods.get(called.attr) if kind is not None else None

    def _kind_of(self, owner: Class | None, held: ast.expr) -> Class | None:
        """The class of `self.a`, or of `self.a.b`."""
        if not isinstance(held, ast.Attribute):
            return None
        of = owner if isinstance(held.value, ast.Name) and held.value.id == "self" else self._kind_of(owner, held.value)
        name = of.attributes.get(held.attr) if of is not None else None
        return self.classes[name][1] if name in self.classes else None

    def _inside(self, module: Module, owner: Class | None, function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
        for region in _regions(function):
            for node in region:
                if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):
                    if not _manages_context(function):
                        yield (
                            node.lineno,
                            "leaves a read open while somebody else goes on; give the connection back first",
                        )
                elif isinstance(node, ast.Call) and (_opens(node) or self._leads_to_one(module, owner, node)):
                    yield node.lineno, "takes a second connection inside a transaction; pass the first one on"


def modules_of(root: Path, base: Path) -> list[Module]:
    """Every Python file under `root`, named relative to `base`."""
    found = []
    for path in sorted(root.rglob("*.py")):
        module = Module(path.relative_to(base), tree_of(path))
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef):
                module.functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                module.classes[node.name] = _class(node)
        found.append(module)
    return found


def _class(node: ast.ClassDef) -> Class:
    made = Class({item.name: item for item in node.body if isinstance(item, ast.FunctionDef)})
    begin = made.methods.get("__init__")
    if begin is None:
        return made
    named = {item.arg: item.annotation.id for item in _arguments(begin) if isinstance(item.annotation, ast.Name)}
    for line in ast.walk(begin):
        targets = (
            line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
        )
        value = line.value if isinstance(line, ast.Assign | ast.AnnAssign) else None
        for target in targets:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                    made.attributes[target.attr] = value.func.id
                elif isinstance(value, ast.Name) and value.id in named:
                    made.attributes[target.attr] = named[value.id]
    return made


def _every_function(module: Module) -> Iterator[tuple[Class | None, ast.FunctionDef]]:
    yield from ((None, function) for function in module.functions.values())
    for kind in module.classes.values():
        yield from ((kind, function) for function in kind.methods.values())


def _regions(function: ast.FunctionDef) -> Iterator[list[ast.AST]]:
    """The parts of a function that run while it has a connection."""
    if any(
        isinstance(item.annotation, ast.Name) and item.annotation.id == "Connection" for item in _arguments(function)
    ):
        yield [node for node in _own_nodes(function) if not isinstance(node, ast.Yield | ast.YieldFrom | ast.Await)]
        return
    for node in ast.walk(function):
        if isinstance(node, ast.With) and any(
            isinstance(item.context_expr, ast.Call) and _opens(item.context_expr) for item in node.items
        ):
            yield [inner for line in node.body for inner in _walk_here(line)]
        elif isinstance(node, ast.FunctionDef | ast.Lambda) and node is not function and _takes_connection(node):
            yield [inner for inner in _own_nodes(node) if not isinstance(inner, ast.Yield | ast.YieldFrom | ast.Await)]


def _takes_connection(function: Function) -> bool:
    return any(
        (isinstance(item.annotation, ast.Name) and item.annotation.id == "Connection") or item.arg == "connection"
        for item in _arguments(function)
    )


def _arguments(function: Function) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """What runs when the function is called: not what it only defines."""
    body = [function.body] if isinstance(function, ast.Lambda) else function.body
    for line in body:
        yield from _walk_here(line)


def _walk_here(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk_here(child)


def _opens(call: ast.Call) -> bool:
    """`store.read()`, `self._store.write(…)` and the like."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("read", "write"):
        return False
    owner = call.func.value
    name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    return name.endswith("store")


def _is_connection(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("connection", "reading", "writing")


def _manages_context(function: ast.FunctionDef) -> bool:
    return any(isinstance(item, ast.Name) and item.id == "contextmanager" for item in function.decorator_list)
