"""What the desk refuses, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sublet.values.errors import InvalidInputError


class UnitError(InvalidInputError):
    """These two numbers have different units; convert one of them, or say in which unit the result is meant."""

    code = "unit_mismatch"


class BasisError(InvalidInputError):
    """These two powers are measured at different points; multiply the IT figure by the PUE to get the facility's."""

    code = "basis_mismatch"


class FamilyError(InvalidInputError):
    """These two figures measure different things and can't be added; keep them as two rows, side by side."""

    code = "family_mismatch"


class CaseError(InvalidInputError):
    """The case can't be used as it is; the message names the file, the line, and what to write instead."""

    code = "invalid_case"


class UnknownNameError(CaseError):
    """The case has no value of that name; the message gives the nearest one that exists."""

    code = "unknown_name"


class CalculationError(CaseError):
    """These numbers have no such result; the message names the number to look at. Whatever doesn't need the result stands."""

    code = "cannot_calculate"


class ContractError(InvalidInputError):
    """The contract can't be used as it is; the message names the contract and the field to correct."""

    code = "invalid_contract"


class DistributionError(InvalidInputError):
    """The distribution's parameters contradict each other; the message names the one to change."""

    code = "invalid_distribution"


def is_of_numbers(error: BaseException) -> bool:
    """Whether an error is about what numbers come to; a name, unit, basis or family that can't be used is a fault of the file."""
    return isinstance(error, CalculationError) or type(error) in (InvalidInputError, ContractError)


def nearest(name: str, valid: Iterable[str]) -> str:
    """A half-sentence that names the nearest valid name, or lists the first few where none is near."""
    names = sorted(set(valid))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(names[:12])
    return f"valid here: {listed}{', …' if len(names) > 12 else ''}"
