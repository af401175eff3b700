"""The console's routes: its pages, signing in and out, static files; every answer with headers that keep it to itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sublet.console import chart, figures
from sublet.console.assets import Assets
from sublet.console.model import FIND_LENGTH_MAX, ROWS_MAX
from sublet.console.page import Page
from sublet.console.sessions import SESSION_HOURS, Session, Sessions
from sublet.values.errors import ForbiddenError, InvalidInputError, SubletError, UnauthenticatedError

COOKIE = "sublet_session"
WRONG_KEY = "This key is unknown, expired or revoked; paste another one."
FORM_BYTES_MAX = 4096
_FIELDS_MAX = 16
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


class ForeignFormError(ForbiddenError):
    """This form was sent from another site or an older page; open the console's own page and send it again."""

    code = "foreign_form"


class FormTooLongError(InvalidInputError):
    """The form is longer than the console accepts; paste only the key into it."""

    code = "form_too_long"
    status = 413


@dataclass(frozen=True, slots=True)
class Pages:
    """Templates and static files, loaded once."""

    templates: Environment
    assets: Assets

    @classmethod
    def load(cls, pages: Sequence[Page]) -> Pages:
        assets = Assets()
        templates = Environment(
            loader=PackageLoader("sublet.console"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.globals.update(asset=assets.path, rows_max=ROWS_MAX, find_length_max=FIND_LENGTH_MAX)
        templates.globals.update(refresh_without_script_s=REFRESH_WITHOUT_SCRIPT_S, refresh_slowly_s=REFRESH_SLOWLY_S)
        templates.globals.update(forecast_label=chart.forecast_label)
        templates.globals.update(pages=[(page.path, page.label) for page in pages])
        for name in ("count", "rate", "money", "duration", "moment", "period", "share", "tone"):
            templates.filters[name] = getattr(figures, name)
        return cls(templates, assets)

    def shown(self, page: Page, query: Mapping[str, str], form_token: str) -> HTMLResponse:
        """A page as it is now."""
        drawn = page.gather(query)
        return self._page(page.template, **drawn, form_token=form_token, refresh_s=page.refresh_s)

    def sign_in(self, error: SubletError | None = None) -> HTMLResponse:
        """The form that asks for the operator's key, with what was wrong about the last one."""
        page = self._page("sign_in.html", error=error.message if error else None)
        page.status_code = error.status if error else 200
        if error and "retry_after_s" in error.details:
            page.headers["Retry-After"] = str(error.details["retry_after_s"])
        return page

    def problem(self, error: SubletError) -> HTMLResponse:
        """A page for when there is none, with the one sentence of the error."""
        page = self._page("problem.html", error=error)
        page.status_code = error.status
        return page

    def _page(self, template: str, **values: object) -> HTMLResponse:
        return HTMLResponse(self.templates.get_template(template).render(**values), headers=HEADERS)


def router(sessions: Sessions, shown: Sequence[Page]) -> APIRouter:
    """The pages in `shown`, GET and POST /login, POST /logout, GET /static/…: the operator's console."""
    pages = Pages.load(shown)
    routes = APIRouter(include_in_schema=False)
    for page in shown:
        _add_page(routes, pages, sessions, page)

    @routes.get("/login")
    def sign_in_page(request: Request) -> Response:
        return _to("/") if _session(request, sessions) else pages.sign_in()

    @routes.post("/login")
    def sign_in(request: Request, form: Annotated[_Form, Depends(_form)]) -> Response:
        try:
            _refuse_foreign(request)
            token = sessions.open(form.field("key"), request.client.host if request.client else "")
        except UnauthenticatedError:
            return pages.sign_in(UnauthenticatedError(WRONG_KEY))
        except SubletError as error:
            return pages.sign_in(error)
        answer = _to("/")
        answer.set_cookie(
            COOKIE,
            token,
            max_age=SESSION_HOURS * 3600,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @routes.post("/logout")
    def sign_out(request: Request, form: Annotated[_Form, Depends(_form)]) -> Response:
        session = _session(request, sessions)
        if session is not None:
            try:
                _refuse_foreign(request)
                if not session.owns_form(form.field("form_token")):
                    raise ForeignFormError()
            except SubletError as error:
                return pages.problem(error)
            sessions.close(request.cookies.get(COOKIE))
        answer = _to_sign_in()
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    @routes.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        asset = pages.assets.at(f"/static/{name}")
        if asset is None:
            return PlainTextResponse("There is no such file; reload the page.\n", 404, HEADERS)
        kept = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return Response(asset.content, headers=kept, media_type=asset.media_type)

    return routes


def _add_page(routes: APIRouter, pages: Pages, sessions: Sessions, page: Page) -> None:
    @routes.get(page.path)
    def shown(request: Request) -> Response:
        session = _session(request, sessions)
        if session is None:
            return _to_sign_in()
        try:
            return pages.shown(page, request.query_params, session.form_token)
        except SubletError as error:
            return pages.problem(error)


@dataclass(frozen=True, slots=True)
class _Form:
    """What a form sent; `body` None where it was longer than FORM_BYTES_MAX."""

    body: bytes | None

    def field(self, name: str) -> str:
        """The field's first value, empty where it is missing. Raises FormTooLongError."""
        if self.body is None:
            raise FormTooLongError()
        try:
            fields = parse_qs(self.body.decode("utf-8", "replace"), max_num_fields=_FIELDS_MAX)
        except ValueError as error:
            raise FormTooLongError() from error
        return fields.get(name, [""])[0]


async def _form(request: Request) -> _Form:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            return _Form(None)
    return _Form(body)


def _session(request: Request, sessions: Sessions) -> Session | None:
    return sessions.find(request.cookies.get(COOKIE))


def _refuse_foreign(request: Request) -> None:
    """Browsers say where a form comes from; one from elsewhere is refused whatever cookies it carries."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if site not in ("same-origin", "none") or foreign:
        raise ForeignFormError()


def _to(path: str) -> RedirectResponse:
    return RedirectResponse(path, 303, HEADERS)


def _to_sign_in() -> RedirectResponse:
    return _to("/login")
