"""Errors of yield."""

from __future__ import annotations

from sublet.values.errors import InvalidInputError


class UnusableStateError(InvalidInputError):
    """The mix can't be decided from these figures; the message names the one to correct."""

    code = "unusable_state"
