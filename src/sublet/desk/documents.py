"""A TOML file that knows its lines: every refusal names the file, the line, and what to write instead."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sublet.desk.errors import CalculationError, CaseError, is_of_numbers, nearest
from sublet.values.errors import SubletError
from sublet.values.toml import toml_of

CASE_BYTES_MAX = 4_000_000

KeyPath = tuple[str | int, ...]
_T = TypeVar("_T")
_P = ParamSpec("_P")

_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=(.*)$"""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file with the line of each key.

    Where scenario files extend it, `files` are those, and `inputs_in` says in which of them, and at which line, an input is set.
    """

    name: str
    data: Mapping[str, Any]
    lines: Mapping[KeyPath, int]
    digest: str
    files: tuple[str, ...] = ()
    inputs_in: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def line_of(self, path: KeyPath) -> int:
        """The line of a key, of what stands first in it, or of the nearest table around it."""
        while path and path not in self.lines:
            within = [line for found, line in self.lines.items() if found[: len(path)] == path]
            if within:
                return min(within)
            path = path[:-1]
        return self.lines.get(path, 1)

    def refuse(self, path: KeyPath, message: str) -> CaseError:
        """An error with file and line; the caller raises it."""
        return CaseError(f"{self.name}:{self.line_of(path)}: {message}", file=self.name, line=self.line_of(path))

    def refuse_line(self, line: int, message: str) -> CaseError:
        """An error at a line that is known; the caller raises it."""
        return CaseError(f"{self.name}:{line}: {message}", file=self.name, line=line)

    def root(self) -> Table:
        return Table(self, (), self.data)


def read_document(path: Path) -> Document:
    """Read a TOML file. Raises CaseError for a file that is missing, too large or not TOML."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: the file can't be read ({error.strerror}); check the path") from error
    if len(raw) > CASE_BYTES_MAX:
        raise CaseError(f"{path}: the file has {len(raw)} bytes; a case has at most {CASE_BYTES_MAX}")
    return parse_document(raw, str(path))


def parse_document(raw: bytes, name: str) -> Document:
    """Parse the bytes of a TOML file. Raises CaseError where they are not TOML."""
    try:
        text = raw.decode("utf-8-sig")
        data = toml_of(text)
    except UnicodeDecodeError as error:
        raise CaseError(f"{name}: the file is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except ValueError as error:
        raise _not_toml(name, text, str(error)) from error
    return Document(name, data, dict(_index_lines(text)), hashlib.sha256(raw).hexdigest())


def _not_toml(name: str, text: str, reason: str) -> CaseError:
    """The error with its line, and for the commonest causes what to write."""
    place = re.search(r"at line (\d+)", reason)
    line = int(place[1]) if place else len(text.splitlines()) or 1
    lines = text.splitlines()
    words = lines[line - 1] if 0 < line <= len(lines) else ""
    number = re.search(r"=\s*(-?[\d.]+(?:,[\d.]+)+)\s*(?:#.*)?$", words)
    advice = ""
    percent = re.search(r"=\s*(-?[\d.]+)\s*%", words)
    if number:
        advice = f"; {number[1]} has a comma: write {plain_number(number[1])}"
    elif percent:
        advice = f"; write {percent[1]} % as a fraction: {float(percent[1]) / 100:g}" if _is_number(percent[1]) else ""
    elif re.search(r"=\s*\"[^\"]*$", words) or re.search(r"=\s*'[^']*$", words):
        advice = "; the text has no closing quote"
    elif re.search(r"=\s*\$?[A-Za-z$]", words):
        advice = "; a text stands in quotes"
    elif re.search(r"=\s*\"[^\"]*\"\s*[^\s#,}\]]", words):
        advice = "; a text ends at its second quote: write quotes inside it as '"
    elif " twice" in reason:
        advice = "; give one of the two another name"
    return CaseError(f"{name}:{line}: not valid TOML: {reason}{advice}", file=name, line=line)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def plain_number(text: str) -> str:
    """A number as TOML has it: groups of three after commas are thousands, any other comma is a decimal one."""
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text):
        return text.replace(",", "")
    return text.replace(".", "").replace(",", ".") if "," in text else text


@dataclass(slots=True)
class Table:
    """One table of the document. Every key must be asked for; `finish` refuses the ones that nobody wanted."""

    document: Document
    path: KeyPath
    data: Mapping[str, Any]
    asked: set[str] = field(default_factory=set)

    def fail(self, key: str | None, message: str) -> CaseError:
        """An error at a key of this table; the caller raises it."""
        return self.document.refuse(self.path if key is None else (*self.path, key), message)

    def cannot(self, key: str | None, message: str) -> CalculationError:
        """An error of what the numbers come to, at a key of this table; the caller raises it."""
        error = self.fail(key, message)
        return CalculationError(error.message, **error.details)

    def line(self, key: str | None = None) -> int:
        return self.document.line_of(self.path if key is None else (*self.path, key))

    def has(self, key: str) -> bool:
        self.asked.add(key)
        return key in self.data

    def text(self, key: str, default: str | None = None) -> str:
        found: str = self._typed(key, default, str, "a text in quotes")
        return found

    def flag(self, key: str, default: bool | None = None) -> bool:
        found: bool = self._typed(key, default, bool, "true or false")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        return self._finite(key, float(self._typed(key, default, (int, float), "a number")))

    def whole(self, key: str, default: int | None = None) -> int:
        found: int = self._typed(key, default, int, "a whole number")
        return found

    def day(self, key: str, default: date | None = None) -> date:
        found = self._typed(key, default, date, "a date like 2026-07-02, without quotes")
        return found.date() if isinstance(found, datetime) else found

    def texts(self, key: str, default: list[str] | None = None) -> list[str]:
        found: list[str] = self._list(key, default, str, "texts")
        return found

    def numbers(self, key: str, default: list[float] | None = None) -> list[float]:
        return [self._finite(key, float(item)) for item in self._list(key, default, (int, float), "numbers")]

    def table(self, key: str) -> Table:
        """A sub-table, empty where the file has none."""
        found = self._typed(key, {}, dict, "a table")
        return Table(self.document, (*self.path, key), found)

    def tables(self, key: str) -> list[Table]:
        """The tables of `[[key]]`, in order."""
        found = self._list(key, [], dict, f"tables, each under [[{key}]]")
        return [Table(self.document, (*self.path, key, number), item) for number, item in enumerate(found)]

    def named_tables(self, key: str) -> Iterator[tuple[str, Table]]:
        """The tables `[key.NAME]`, in order."""
        outer = self.table(key)
        for name, item in outer.data.items():
            if not isinstance(item, dict):
                raise outer.fail(name, f"{name!r} must be a table: write [{key}.{name}] and its keys below it")
            if item and all(isinstance(inner, dict) for inner in item.values()):
                dotted = f"{name}.{next(iter(item))}"
                raise outer.fail(name, f'a name with dots in it stands in quotes: write [{key}."{dotted}"]')
            yield name, Table(self.document, (*outer.path, name), item)

    def known(self, keys: Iterable[str]) -> None:
        """Raises CaseError for a key that is not among `keys`: before anything within is read, which would complain of less."""
        for key in self.data.keys() - set(keys):
            raise self.fail(key, f"there is no table {key!r} in a case; {nearest(key, keys)}")

    def finish(self) -> None:
        """Raises CaseError for a key that this table does not have, with the nearest one that it has."""
        for key in self.data:
            if key not in self.asked:
                where = (
                    f"[{'.'.join(str(part) for part in self.path if isinstance(part, str))}]"
                    if self.path
                    else "the case"
                )
                raise self.fail(key, f"key {key!r} is not known in {where}; {nearest(key, self.asked)}")

    def _finite(self, key: str, number: float) -> float:
        if not math.isfinite(number):
            raise self.fail(key, f"{key!r} is {number}; write a finite number")
        return number

    def _typed(self, key: str, default: Any, kind: Any, wanted: str) -> Any:
        self.asked.add(key)
        if key not in self.data:
            if default is None:
                misspelt = difflib.get_close_matches(key, self.data.keys() - self.asked, n=1, cutoff=0.75)
                if misspelt:
                    raise self.fail(misspelt[0], f"key {misspelt[0]!r} is not known here; did you mean {key!r}?")
                raise self.fail(None, f"{key!r} is missing here; write {key} = {wanted}")
            return default
        found = self.data[key]
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise self.fail(key, f"{key!r} is {found!r}; write {wanted}")
        return found

    def _list(self, key: str, default: Any, kind: Any, wanted: str) -> Any:
        found = self._typed(key, default, list, f"a list of {wanted}")
        for item in found:
            if not isinstance(item, kind) or isinstance(item, bool):
                raise self.fail(key, f"{key!r} holds {item!r}; write a list of {wanted}")
        return found


def at_line(table: Table, key: str | None, act: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """`act(*args, **kwargs)`, with the file and line put before the message of whatever Sublet error it raises.

    A model that refuses a number raises a CalculationError, as `terms` and `sheet` do; a name, unit or basis that can't be used stays
    a CaseError.
    """
    try:
        return act(*args, **kwargs)
    except SubletError as error:
        if isinstance(error, CaseError) and error.details.get("file"):
            raise
        made = (table.cannot if is_of_numbers(error) else table.fail)(key, error.message)
        if error.details.get("follows"):
            made.details["follows"] = error.details["follows"]
        raise made from error


def _index_lines(text: str) -> Iterator[tuple[KeyPath, int]]:
    """The path of every header and key, with its line. Keys of inline tables share the line of their table."""
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    open_value = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if open_value:
            open_value = _still_open(open_value + "\n" + line)
            continue
        header = _HEADER.match(line)
        if header is not None:
            table = _resolved(_split(header[2]), counts)
            if header[1] == "[[":
                position = counts.get(table, 0)
                counts[table] = position + 1
                table = (*table, position)
            yield table, number
            continue
        key = _KEY.match(line)
        if key is not None:
            yield (*table, *_split(key[1])), number
            open_value = _still_open(key[2])


def _resolved(path: KeyPath, counts: Mapping[KeyPath, int]) -> KeyPath:
    """`[a.b]` below `[[a]]` belongs to the last of them."""
    found: KeyPath = ()
    for position, part in enumerate(path):
        found = (*found, part)
        if position < len(path) - 1 and found in counts:
            found = (*found, counts[found] - 1)
    return found


def _split(dotted: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _still_open(value: str) -> str:
    """`value` if it goes on in the next line (an open bracket or triple quote), else nothing."""
    bare = re.sub(r"\"\"\".*?\"\"\"|'''.*?'''", "", value, flags=re.DOTALL)
    if '"""' in bare or "'''" in bare:
        return value
    bare = re.sub(r"\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'", "", bare)
    bare = re.sub(r"#[^\n]*", "", bare)
    return value if bare.count("[") + bare.count("{") > bare.count("]") + bare.count("}") else ""
