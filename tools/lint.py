"""Sublet's own rules, each found more than once in review. `python tools/lint.py` prints every breach and exits 1."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from trees import nodes_of, tree_of

ROOT = Path(__file__).resolve().parent.parent
MIGRATIONS = ROOT / "src" / "sublet" / "store" / "migrations" / "versions"
"""Generated, one statement a table: as long as the tables are many."""
CALLS = {ROOT / "src" / "sublet" / "client" / name for name in ("calls.py", "async_calls.py")}
"""Generated, one method an operation."""
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
DRAWERS = {"util.py", "utils.py", "helper.py", "helpers.py", "common.py", "misc.py", "manager.py"}
EXACT = ("ledger", "accounts")
REGISTRY_HOSTS = re.compile(
    "|".join(
        one + rest
        for one, rest in (
            ("pypi", r"\.org"),
            ("python", "hosted"),
            (r"registry\.(npm|yarn)", "(js|pkg)"),
            (r"(deb|security|ftp)\.debian", r"\.org"),
            (r"(archive|security|ports)\.ubuntu", r"\.com"),
            (r"(conda|repo)\.ana", r"conda\."),
            (r"repo\.prefix", r"\.dev"),
            ("crates", r"\.io"),
            ("ruby", r"gems\.org"),
        )
    )
)
BRITISH = re.compile(
    "|".join(
        stem + rest
        for stem, rest in (
            ("organi", "s(?!m)"),
            ("utili", "s(?=e|a|i)"),
            ("recogni", "s"),
            ("authori", "s"),
            ("catalo", "gue"),
            ("hon", "our"),
            ("col", "our"),
            ("fav", "our"),
            ("behavi", "our"),
            ("neighb", "our"),
            ("licen", "ce"),
            ("judg", "ement"),
            ("label", "led(?!by)"),
            ("model", "l(?:ed|ing)"),
            ("cent", "re\\b"),
            ("normali", "s(?=e|a|i)"),
            ("serial", "is"),
            ("initial", "is(?=e|a|i)"),
            ("final", "is(?=e|a|i)"),
        )
    ),
    re.IGNORECASE,
)
"""Stems as British English spells them, in two parts so that this file passes its own rule."""
BRITISH_ALLOWED = re.compile(
    r"^(src/sublet/store/migrations/|tests/(store|desk|fixtures)/|src/sublet/desk/(sheet|units)\.py|src/sublet/gateway/metering/journal\.py"
    r"|tests/gateway/test_journal\.py|CHANGELOG\.md|LICENSE|requirements)|\.min\.(js|css)$|\.(svg|json)$"
)
"""Where an older spelling is read, written down, or somebody else's."""
TRANSLATED = re.compile(
    "|".join(
        first + rest
        for first, rest in (
            (r"\bwho", r"ever\b"),
            (r"\bane", r"w\b"),
            (r"\ball the ", r"same\b"),
            (r"\blets? ", r"go of\b"),
            (r"\bputs? ", r"by\b"),
            (r"\bby and ", r"by\b"),
            (r"\bof ", r"whom\b"),
            (r"\bin n", r"obody's way\b"),
            (r"\btoo ", r"dear\b"),
        )
    ),
    re.IGNORECASE,
)
"""Phrases that a native speaker would not write in a message or a manual, in two parts as above; the glossary lists them."""
MANUAL = ("src/", "docs/", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
TRANSLATED_ALLOWED = re.compile(r"^(src/sublet/store/migrations/|docs/glossary\.md|CHANGELOG\.md)")
"""The glossary names the words not to use; what was released is not rewritten."""
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def main() -> int:
    breaches = [
        breach
        for rule in (
            code_rules,
            transaction_rules,
            cycle_rules,
            ownership_rules,
            startup_rules,
            package_rules,
            text_rules,
        )
        for breach in rule()
    ]
    for breach in breaches:
        print(breach)
    print(f"{len(breaches)} breaches of our own rules" if breaches else "our own rules hold")
    return 1 if breaches else 0


def code_rules() -> Iterator[str]:
    for path in sorted((ROOT / "src").rglob("*.py")):
        source = path.read_text()
        name = path.relative_to(ROOT)
        lines = source.count("\n")
        written = MIGRATIONS not in path.parents and path not in CALLS
        if lines > FILE_LINES_MAX and written:
            yield f"{name}: {lines} lines, at most {FILE_LINES_MAX}"
        if path.name in DRAWERS:
            yield f"{name}: a drawer for everything; name it after what is in it"
        tree = tree_of(path)
        if written:
            yield from function_length(name, tree)
        yield from naive_time(name, tree)
        yield from terminal_output(name, tree)
        if path.name == "api.py" or "APIRouter" in source:
            yield from bodies(name, tree)
        yield from answers(name, tree)
        parts = path.relative_to(ROOT / "src" / "sublet").parts
        if parts[0] in EXACT:
            yield from floats(name, tree)
        if parts[0] == "gateway" and parts[1] in DIALECT_FREE:
            yield from dialect_words(name, tree)


def function_length(name: Path, tree: ast.AST) -> Iterator[str]:
    for node in nodes_of(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def floats(name: Path, tree: ast.AST) -> Iterator[str]:
    """Money never meets a float: no float literal, no `float(...)` and no `float` annotation in the exact packages."""
    for node in nodes_of(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield f"{name}:{node.lineno}: float literal {node.value} in an exact package"
        elif (
            isinstance(node, ast.Name) and node.id == "float" and not isinstance(getattr(node, "ctx", None), ast.Store)
        ):
            yield f"{name}:{node.lineno}: float named in an exact package"


def bodies(path: Path, tree: ast.AST) -> Iterator[str]:
    """A request body is made by `values.wire.body`, which refuses unknown fields; no route has a model of its own."""
    for node in nodes_of(tree):
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named += [item.name for item in node.names] if isinstance(node, ast.Import) else []
        if any(name.startswith("pydantic") for name in named):
            yield f"{path}:{node.lineno}: a module of routes imports pydantic; make its bodies in wire.py with @body"


WITHOUT_TYPE = {
    "/v1/exports/{name}": "a file of rows, streamed",
    "/v1/chargeback/export": "a file of rows, streamed",
    "/v1/volumes/{volume}/content": "files of a volume, streamed",
    "/v1/desk/actuals.html": "a page",
}
"""The operations that answer with something else than JSON, and so with no wire type."""
UNTYPED = re.compile(
    r"^(dict|Dict|Mapping|list|Any|object|Response|JSONResponse|HTMLResponse|StreamingResponse|FileResponse)\b"
)


def answers(name: Path, tree: ast.AST) -> Iterator[str]:
    """An operation returns a class of `wire.py`: its answer is declared, and can't have other fields than that."""
    for node in nodes_of(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for path, no_content in _operations_of(node):
            told = ast.unparse(node.returns) if node.returns is not None else ""
            if path in WITHOUT_TYPE or (told == "None" and no_content):
                continue
            if told in ("", "None") or UNTYPED.match(told):
                yield f"{name}:{node.lineno}: {path} answers with {told or 'anything'}; return a class of wire.py (`as_answer`)"


def _operations_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, bool]]:
    """The paths under /v1 that a function answers, and whether it answers them with nothing (204)."""
    for made in node.decorator_list:
        if not (isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute) and made.args):
            continue
        path = made.args[0]
        if isinstance(path, ast.Constant) and str(path.value).startswith("/v1/"):
            status = next((item.value for item in made.keywords if item.arg == "status_code"), None)
            yield str(path.value), isinstance(status, ast.Constant) and status.value == 204


DIALECT_FREE = ("front", "metering", "requests")
"""Rooms of the gateway in which a request under way is nobody's body."""
DIALECT_WORDS = frozenset(
    "messages choices delta max_tokens max_completion_tokens tool_calls response_format finish_reason prompt_tokens "
    "completion_tokens stream_options reasoning_effort logit_bias reasoning_content".split()
)


def dialect_words(name: Path, tree: ast.AST) -> Iterator[str]:
    """The gateway's inside names no field of anybody's body: surfaces read them, upstream writes them."""
    found: set[tuple[int, str]] = set()
    for node in nodes_of(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode(errors="replace")
            found |= {(node.lineno, word) for word in DIALECT_WORDS & {text.strip('",:{}[] ')}}
        elif isinstance(node, ast.Attribute) and node.attr in DIALECT_WORDS:
            found.add((node.lineno, node.attr))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in DIALECT_WORDS:
            found.add((node.lineno, node.target.id))
    for line, word in sorted(found):
        yield f"{name}:{line}: {word} is a field of OpenAI's; read it in surfaces/, write it in upstream/"


def naive_time(name: Path, tree: ast.AST) -> Iterator[str]:
    """The present comes from a clock; only `values/clock.py` asks the machine."""
    if name.name == "clock.py":
        return
    for node in nodes_of(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("now", "utcnow", "today")
        ):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in ("datetime", "date"):
                yield f"{name}:{node.lineno}: {owner.id}.{node.func.attr}(); take the time from an injected Clock"


def transaction_rules() -> Iterator[str]:
    """Nothing takes a second connection while it has one."""
    from transactions import Sources, modules_of

    yield from Sources(modules_of(ROOT / "src", ROOT)).breaches()


def startup_rules() -> Iterator[str]:
    """A command that asks a running system starts at once: nothing heavy is loaded with it."""
    import startup

    yield from startup.breaches(ROOT / "src")


def cycle_rules() -> Iterator[str]:
    """No two modules import each other, not even for type checkers."""
    import cycles

    yield from cycles.breaches(ROOT / "src", "sublet")


def ownership_rules() -> Iterator[str]:
    """A domain's tables and SQL live in that domain, and nobody else queries them."""
    from ownership import Ownership

    yield from Ownership(ROOT / "src" / "sublet").breaches(ROOT)


def terminal_output(name: Path, tree: ast.AST) -> Iterator[str]:
    """What others wrote is shown on terminals and never obeyed: only `output.py` prints."""
    if name.parts[-2:] == ("sublet", "output.py"):
        return
    for node in nodes_of(tree):
        if isinstance(node, ast.Call):
            called = node.func
            echo = isinstance(called, ast.Attribute) and called.attr in ("echo", "secho")
            bare = isinstance(called, ast.Name) and called.id in ("print", "Console")
            if echo or bare:
                yield f"{name}:{node.lineno}: prints past sublet.output; use say, print_rows, print_json or Screen"


def package_rules() -> Iterator[str]:
    for folder in sorted((ROOT / "src" / "sublet").iterdir()):
        if folder.is_dir() and any(folder.glob("*.py")) and not (folder / "README.md").is_file():
            yield f"{folder.relative_to(ROOT)}: no README.md (owns, does not own, invariants, failure)"


def text_rules() -> Iterator[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    for entry in filter(None, listed):
        path = ROOT / entry
        if path.name == "uv.lock":
            yield f"{entry}: a lock file that names registry hosts"
        if not path.is_file() or path.suffix in (".png", ".gz", ".parquet", ".pdf", ".xlsx", ".woff2"):
            continue
        text = path.read_text(errors="replace")
        if REGISTRY_HOSTS.search(text):
            yield f"{entry}: names a package registry's host"
        if not BRITISH_ALLOWED.search(entry):
            for number, line in enumerate(text.splitlines(), 1):
                if found := BRITISH.search(line):
                    yield f"{entry}:{number}: {found.group()}: spell it as American English does"
        if path.suffix in (".py", ".md", ".html") and entry.startswith(MANUAL) and not TRANSLATED_ALLOWED.search(entry):
            for number, line in enumerate(text.splitlines(), 1):
                if found := TRANSLATED.search(line):
                    yield f"{entry}:{number}: {found.group()!r} reads like a translation; say it as an engineer would"
        if path.suffix == ".py" and entry.startswith(("src/", "tests/", "bench/")):
            for number, line in enumerate(text.splitlines(), 1):
                if UNFINISHED.search(line):
                    yield f"{entry}:{number}: unfinished: {line.strip()}"


if __name__ == "__main__":
    sys.exit(main())
