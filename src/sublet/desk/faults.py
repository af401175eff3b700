"""Everything that is wrong with a file, in one go: each fault once, without those that only follow from another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sublet.desk.errors import CaseError, UnknownNameError
from sublet.values.errors import SubletError

FAULTS_MAX = 50
"""So many faults are listed; who has more has one cause for most of them."""


class Faults:
    """What was refused so far. A value that was refused is broken: what only lacks such a value is no fault of its own."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[CaseError] = []
        self._broken: set[str] = set()

    @contextmanager
    def gathered(self, name: str = "") -> Iterator[None]:
        """Go on after a refusal of what is read inside; `name` is the value that is then missing."""
        try:
            yield
        except SubletError as error:
            self._broken |= {name} if name else set()
            if error.details.get("follows") or (self._found and _is_unknown(error)):
                return
            if not error.details.get("file"):
                error = CaseError(f"{self._file}:1: {error.message}", file=self._file, line=1)
            assert isinstance(error, SubletError)
            self._found.append(CaseError(error.message, **error.details))

    def check(self, name: str) -> None:
        """Raises a CaseError that is not counted where `name` was itself refused."""
        if name in self._broken:
            raise CaseError(f"{name!r} was refused", file=self._file, follows=name)

    def raise_all(self) -> None:
        """Raises one CaseError with all faults in the order of their lines; nothing where there is none."""
        if not self._found:
            return
        listed = sorted(self._found, key=lambda error: int(error.details.get("line") or 1))
        messages = list(dict.fromkeys(error.message for error in listed))
        more = len(messages) - FAULTS_MAX
        shown = messages[:FAULTS_MAX] + ([f"and {more} more"] if more > 0 else [])
        raise CaseError("\n".join(shown), **listed[0].details)


def _is_unknown(error: BaseException) -> bool:
    return isinstance(error, UnknownNameError) or isinstance(error.__cause__, UnknownNameError)
