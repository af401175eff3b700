"""What is wrong with a case: faults of the file, all in one go, and results that its numbers do not have, each in its place.

A fault of the file (a name, a type, a unit, a basis, an input that can't be) stops it before anything is written. A result that
can't be calculated from sound inputs stops nothing else: its part of the case says why, and so does whatever needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sublet.desk.errors import CalculationError, CaseError, UnknownNameError, is_of_numbers
from sublet.values.errors import SubletError

FAULTS_MAX = 50
"""So many faults are listed; who has more has one cause for most of them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A result that can't be calculated: the part of the case that lacks it, its name (empty: the whole part), and why.

    `message` begins with file and line.
    """

    part: str
    name: str
    message: str

    @property
    def reason(self) -> str:
        """The message without file and line, for a page that the reader has no file beside."""
        return self.message.partition(": ")[2] or self.message


class Faults:
    """What was refused so far. A value that was refused is broken: what only lacks such a value is no fault of its own.

    `line_of` gives the line at which a value is written, 1 where it is not known.
    """

    def __init__(self, file: str, line_of: Callable[[str], int] = lambda _: 1) -> None:
        self._file = file
        self._line_of = line_of
        self._found: list[CaseError] = []
        self._broken: set[str] = set()
        self._missing: set[str] = set()
        self.problems: list[Problem] = []

    @contextmanager
    def gathered(self, name: str = "") -> Iterator[None]:
        """Go on after a refusal of what is read inside; `name` is the value that is then missing."""
        try:
            yield
        except SubletError as error:
            self._fault(error, name)

    @contextmanager
    def attempted(self, part: str, name: str = "") -> Iterator[None]:
        """Like `gathered`, but a result that can't be calculated is a problem of its part and no fault of the file."""
        try:
            yield
        except SubletError as error:
            follows = bool(error.details.get("follows")) or (bool(self.problems) and _is_unknown(error))
            if self._found or not (is_of_numbers(error) or follows):
                self._fault(error, name)
                return
            self._missing |= {name} if name else set()
            self.problems.append(Problem(part, name, self._placed(error).message))

    def check(self, name: str) -> None:
        """Raises an error that is not counted where `name` was itself refused or can't be calculated."""
        if name in self._broken:
            raise CaseError(f"{name!r} was refused", file=self._file, follows=name)
        if name in self._missing:
            raise CalculationError(f"it needs {name!r}, which can't be calculated", follows=name)

    def raise_all(self) -> None:
        """Raises one CaseError with all faults in the order of their lines; nothing where there is none."""
        if not self._found:
            return
        listed = sorted(self._found, key=lambda error: int(error.details.get("line") or 1))
        messages = list(dict.fromkeys(error.message for error in listed))
        more = len(messages) - FAULTS_MAX
        shown = messages[:FAULTS_MAX] + ([f"and {more} more"] if more > 0 else [])
        raise CaseError("\n".join(shown), **listed[0].details)

    def _fault(self, error: SubletError, name: str) -> None:
        self._broken |= {name} if name else set()
        if not (error.details.get("follows") or (self._found and _is_unknown(error))):
            self._found.append(self._placed(error))

    def _placed(self, error: SubletError) -> CaseError:
        """The error with file and line in front: its own, or those of the value that it names."""
        if error.details.get("file"):
            return CaseError(error.message, **error.details)
        line = self._line_of(str(error.details.get("value_name") or ""))
        return CaseError(f"{self._file}:{line}: {error.message}", file=self._file, line=line)


def _is_unknown(error: BaseException) -> bool:
    return isinstance(error, UnknownNameError) or isinstance(error.__cause__, UnknownNameError)
