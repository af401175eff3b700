"""What a page of the console is. Which there are, `reporting.console_pages` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sublet.accounts.model import Actor
from sublet.accounts.people.model import Session
from sublet.accounts.permissions import ALL
from sublet.console.forms import Form

NAME_LENGTH_MAX = 120
"""Characters of a name in an address that are looked at."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page behind the sign-in that only shows, with its place in the navigation.

    `gather` is given the address's query and returns what the template is drawn from: `view`, which has `as_of`, and whatever
    else the template names; the frame is added. It runs on a worker thread and may raise SubletError, whose sentence is
    shown. `refresh_s` is how often the script asks again. Who looks needs `permission` for every organization.
    """

    path: str
    label: str
    template: str
    refresh_s: int
    gather: Callable[[Mapping[str, str]], Mapping[str, object]]
    permission: str = "system:read"

    def listed_for(self, actor: Actor) -> bool:
        """Whether it is in the actor's navigation."""
        return self.opens_for(actor)

    def opens_for(self, actor: Actor) -> bool:
        """Whether the actor may see it."""
        return actor.may(self.permission) == ALL


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody at a screen: who, with which permission, at which address, and what their form says."""

    session: Session
    actor: Actor
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Form
    at: datetime
    address: str
    base_url: str
    """Scheme and host that the browser asked, for what people copy from the page."""
    language: str
    """The language that the page will be drawn in."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A template and what it is drawn from."""

    template: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Go:
    """Where the browser goes next."""

    path: str


@dataclass(frozen=True, slots=True)
class Act:
    """What a screen's form does. A `dangerous` one needs a password that was given within the last minutes; one that makes
    something is carried out once for each form, however often that is sent."""

    permission: str
    do: Callable[[Visit], Drawn | Go]
    dangerous: bool = False
    once: type | None = None


@dataclass(frozen=True, slots=True)
class Screen:
    """A page on which people act. Its forms are posted to its own path, and their field `act` names one of `acts`.

    `show` draws it. Where an act raises SubletError, the screen is drawn again with its sentence and what was typed. `permission`
    is what one needs to see it, `everywhere` for every organization; without `label` it is not in the navigation.
    """

    path: str
    label: str
    permission: str
    show: Callable[[Visit], Drawn | Go]
    acts: Mapping[str, Act] = field(default_factory=dict)
    everywhere: bool = False
    tenants: bool = False
    """Whether it is listed for tenants alone: the operator's own organization rents and owes nothing."""

    def listed_for(self, actor: Actor) -> bool:
        """Whether it is in the actor's navigation."""
        return bool(self.label) and self.opens_for(actor) and not (self.tenants and actor.is_operator)

    def opens_for(self, actor: Actor) -> bool:
        """Whether the actor may see it."""
        reach = actor.may(self.permission)
        return reach == ALL if self.everywhere else bool(reach)
