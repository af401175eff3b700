"""The console's routes: its pages, signing in and out, static files; every answer with headers that keep it to itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sublet.console import chart, figures
from sublet.console.assets import Assets
from sublet.console.budgets import draw_budget, draw_budgets
from sublet.console.model import FIND_LENGTH_MAX, ROWS_MAX, BudgetsQuery, BudgetsView, Overview, RecordView
from sublet.console.record import draw_record
from sublet.console.sessions import SESSION_HOURS, Session, Sessions
from sublet.values.errors import ForbiddenError, InvalidInputError, SubletError, UnauthenticatedError

COOKIE = "sublet_session"
WRONG_KEY = "This key is unknown, expired or revoked; paste another one."
FORM_BYTES_MAX = 4096
_FIELDS_MAX = 16
REFRESH_S = 5
REFRESH_WITHOUT_SCRIPT_S = 15
REFRESH_RECORD_S = 60
REFRESH_BUDGETS_S = 10
NAME_LENGTH_MAX = 120

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
    def load(cls) -> Pages:
        assets = Assets()
        templates = Environment(
            loader=PackageLoader("sublet.console"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.globals.update(asset=assets.path, refresh_s=REFRESH_S, rows_max=ROWS_MAX)
        templates.globals.update(refresh_without_script_s=REFRESH_WITHOUT_SCRIPT_S, forecast_label=chart.forecast_label)
        templates.globals.update(refresh_record_s=REFRESH_RECORD_S, refresh_budgets_s=REFRESH_BUDGETS_S)
        templates.globals.update(find_length_max=FIND_LENGTH_MAX)
        for name in ("count", "rate", "money", "duration", "moment", "period", "share", "tone"):
            templates.filters[name] = getattr(figures, name)
        return cls(templates, assets)

    def overview(self, view: Overview, form_token: str) -> HTMLResponse:
        """The first page."""
        charts = {pool.id: chart.draw(pool, view.as_of) for pool in view.pools[:ROWS_MAX]}
        budgets = [draw_budget(item) for item in view.budgets.rows] if view.budgets else []
        return self._page("overview.html", view=view, charts=charts, budgets=budgets, form_token=form_token)

    def budgets(self, view: BudgetsView, form_token: str) -> HTMLResponse:
        """Every budget as a bar, the most used first."""
        return self._page("budgets.html", view=view, page=draw_budgets(view), form_token=form_token)

    def record(self, view: RecordView, form_token: str) -> HTMLResponse:
        """What was promised against what happened, for one pool."""
        page = draw_record(view.record) if view.record is not None else None
        return self._page("record.html", view=view, page=page, form_token=form_token)

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


def router(
    overview: Callable[[], Overview],
    sessions: Sessions,
    record: Callable[[str | None], RecordView],
    budgets: Callable[[BudgetsQuery], BudgetsView],
) -> APIRouter:
    """GET /, GET /budgets, GET /record, GET and POST /login, POST /logout, GET /static/…: the operator's console.

    `overview` gathers the present state, `record` that of one pool's record by its name, `budgets` those that are wished for;
    they run on a worker thread and may raise SubletError, whose sentence is shown.
    """
    pages = Pages.load()
    routes = APIRouter(include_in_schema=False)

    _add_pages(routes, pages, sessions, overview, record, budgets)

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


def _add_pages(
    routes: APIRouter,
    pages: Pages,
    sessions: Sessions,
    overview: Callable[[], Overview],
    record: Callable[[str | None], RecordView],
    budgets: Callable[[BudgetsQuery], BudgetsView],
) -> None:
    def shown(request: Request, draw: Callable[[str], Response]) -> Response:
        """The page for who is signed in; `draw` is given the form's token."""
        session = _session(request, sessions)
        if session is None:
            return _to_sign_in()
        try:
            return draw(session.form_token)
        except SubletError as error:
            return pages.problem(error)

    @routes.get("/")
    def first_page(request: Request) -> Response:
        return shown(request, lambda token: pages.overview(overview(), token))

    @routes.get("/record")
    def record_page(request: Request, pool: str | None = None) -> Response:
        return shown(request, lambda token: pages.record(record(pool and pool[:NAME_LENGTH_MAX]), token))

    @routes.get("/budgets")
    def budgets_page(request: Request, find: str = "", order: str = "", offset: str = "") -> Response:
        query = BudgetsQuery.of(find, order, offset)
        return shown(request, lambda token: pages.budgets(budgets(query), token))


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
