"""What a page of the console is. Which there are, `reporting.console_pages` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

NAME_LENGTH_MAX = 120
"""Characters of a name in an address that are looked at."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page behind the sign-in, with its place in the navigation.

    `gather` is given the address's query and returns what the template is drawn from: `view`, which has `as_of`, and whatever
    else the template names; `form_token` is added. It runs on a worker thread and may raise SubletError, whose sentence is
    shown. `refresh_s` is how often the script asks again.
    """

    path: str
    label: str
    template: str
    refresh_s: int
    gather: Callable[[Mapping[str, str]], Mapping[str, object]]
