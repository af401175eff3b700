"""How pages are drawn: the templates, the frame around a page, and the headers that keep every answer to itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sublet.accounts.people.model import Session
from sublet.console import chart, figures
from sublet.console.assets import Assets
from sublet.console.languages import CATALOGS, chosen, translator
from sublet.console.model import FIND_LENGTH_MAX, ROWS_MAX
from sublet.console.page import Page, Screen
from sublet.values.errors import SubletError

REFRESH_WITHOUT_SCRIPT_S = 15
REFRESH_SLOWLY_S = 60
"""Without the script, of pages on which people read or type."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # no-referrer would make browsers send `Origin: null` with our own forms, which are then refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds a page: where one can go, who one is, and the token for its forms."""

    pages: Sequence[tuple[str, str]]
    form_token: str
    who: str
    organization: str
    is_person: bool
    language: str = ""
    """What the person chose; empty: the one that the browser asks for."""


class Pages:
    """Templates and static files, loaded once; `shown` are the pages and screens, in the order of the navigation."""

    def __init__(self, shown: Sequence[Page | Screen]) -> None:
        self.assets = Assets()
        self._shown = shown
        self._templates = {language: self._environment(language) for language in CATALOGS}

    def frame(self, session: Session) -> Frame:
        """What surrounds every page of that session."""
        pages = [(item.path, item.label) for item in self._shown if item.listed_for(session.actor)]
        person = session.person
        return Frame(
            pages,
            session.form_token,
            person.name if person else f"key {session.actor.key_id}",
            session.organization.name,
            person is not None,
            person.language if person else "",
        )

    def first(self, session: Session) -> str:
        """The page that a session begins with."""
        return next(iter(self.frame(session).pages), ("/account", ""))[0]

    def draw(self, request: Request, template: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
        """A page in the language that the person chose, else in the one that the browser asks for."""
        frame = values.get("frame")
        language = language_of(request, frame.language if isinstance(frame, Frame) else "")
        text = self._templates[language].get_template(template).render(**values, language=language)
        return HTMLResponse(text, status, HEADERS)

    def problem(self, request: Request, error: SubletError) -> HTMLResponse:
        """A page for when there is none, with the one sentence of the error."""
        page = self.draw(request, "problem.html", {"error": error}, error.status)
        if "retry_after_s" in error.details:
            page.headers["Retry-After"] = str(error.details["retry_after_s"])
        return page

    def _environment(self, language: str) -> Environment:
        templates = Environment(
            loader=PackageLoader("sublet.console"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.globals.update(asset=self.assets.path, rows_max=ROWS_MAX, find_length_max=FIND_LENGTH_MAX)
        templates.globals.update(refresh_without_script_s=REFRESH_WITHOUT_SCRIPT_S, refresh_slowly_s=REFRESH_SLOWLY_S)
        templates.globals.update(forecast_label=chart.forecast_label, _=translator(language))
        for name in (
            "amount",
            "count",
            "duration",
            "moment",
            "money",
            "period",
            "quantity",
            "rate",
            "sentence",
            "share",
            "tone",
        ):
            templates.filters[name] = getattr(figures, name)
        return templates


def language_of(request: Request, own: str) -> str:
    """The language of a page: what the person chose, `own`, else what the browser asks for."""
    return own if own in CATALOGS else chosen(request.headers.get("accept-language", ""))


def to(path: str) -> RedirectResponse:
    """On to another page of the console."""
    return RedirectResponse(path, 303, HEADERS)
