"""The console's routes: its pages and screens, and its static files."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from sublet.accounts.people.model import Session, VerificationNeededError
from sublet.accounts.people.sessions import Sessions
from sublet.accounts.service import Accounts
from sublet.console.cookies import set_token, token_in
from sublet.console.forms import ForeignFormError, Form, read_form, refuse_foreign
from sublet.console.frame import HEADERS, Pages, language_of, to
from sublet.console.page import Act, Drawn, Go, Page, Screen, Visit
from sublet.store.audit import Acting
from sublet.store.audit import act as audited
from sublet.store.once import AnsweredError, Effect, IdempotencyKeyReusedError, Once, current, request_digest
from sublet.values.errors import ForbiddenError, InvalidInputError, SubletError


class DoneAlreadyError(ForbiddenError):
    """This form has already been submitted; reload the page to see the result."""

    code = "done_already"
    status = 409


def router(accounts: Accounts, sessions: Sessions, pages: Pages, shown: Sequence[Page | Screen]) -> APIRouter:
    """The pages and screens in `shown`, and GET /static/…."""
    routes = APIRouter(include_in_schema=False)
    for item in shown:
        if isinstance(item, Page):
            _add_page(routes, pages, sessions, item)
        else:
            _add_screen(routes, _Screening(accounts, sessions, pages, item))

    @routes.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        asset = pages.assets.at(f"/static/{name}")
        if asset is None:
            return PlainTextResponse("This file does not exist; reload the page.\n", 404, HEADERS)
        kept = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return Response(asset.content, headers=kept, media_type=asset.media_type)

    return routes


def signed_in(request: Request, sessions: Sessions, answer: Callable[[Session], Response]) -> Response:
    """`answer` for signed-in people; others are sent to sign in and then come back."""
    session = sessions.find(token_in(request))
    if session is None:
        return to(_sign_in_path(request))
    made = answer(session)
    if session.fresh_token is not None:
        set_token(request, made, session.fresh_token)
    return made


def refuse_forged(request: Request, session: Session, form: Form) -> None:
    """Raises ForeignFormError where a form is not one of this session's own pages."""
    refuse_foreign(request)
    if not _same(session.form_token, form.text("form_token")):
        raise ForeignFormError()


def visit_of(request: Request, session: Session, form: Form, at: Any) -> Visit:
    """Somebody at a screen."""
    return Visit(
        session,
        session.actor,
        dict(request.path_params),
        request.query_params,
        form,
        at,
        request.client.host if request.client else "",
        f"{request.url.scheme}://{request.headers.get('host', '')}",
        language_of(request, session.person.language if session.person else ""),
    )


def _add_page(routes: APIRouter, pages: Pages, sessions: Sessions, page: Page) -> None:
    @routes.get(page.path)
    def shown(request: Request) -> Response:
        def answer(session: Session) -> Response:
            if not page.opens_for(session.actor):
                first = pages.first(session)
                if page.path == "/" and first != "/":
                    return to(first)
                return pages.problem(request, _not_for(session, page.permission))
            try:
                drawn = page.gather(request.query_params)
            except SubletError as error:
                return pages.problem(request, error)
            return pages.draw(
                request, page.template, {**drawn, "frame": pages.frame(session), "refresh_s": page.refresh_s}
            )

        return signed_in(request, sessions, answer)


def _add_screen(routes: APIRouter, screening: _Screening) -> None:
    path = screening.screen.path

    @routes.get(path)
    def shown(request: Request) -> Response:
        return signed_in(request, screening.sessions, lambda session: screening.show(request, session))

    @routes.post(path)
    def acted(request: Request, form: Annotated[Form, Depends(read_form)]) -> Response:
        return signed_in(request, screening.sessions, lambda session: screening.act(request, session, form))


class _Screening:
    """One screen, shown and acted on."""

    def __init__(self, accounts: Accounts, sessions: Sessions, pages: Pages, screen: Screen) -> None:
        self.sessions = sessions
        self.screen = screen
        self._store = accounts.store
        self._pages = pages

    def show(self, request: Request, session: Session) -> Response:
        """The screen as it is now."""
        if not self.screen.opens_for(session.actor):
            return self._pages.problem(request, _not_for(session, self.screen.permission))
        visit = visit_of(request, session, Form(), self._store.clock.now())
        try:
            return self._answer(request, session, self.screen.show(self._allowed(visit, self.screen.permission)))
        except SubletError as error:
            return self._pages.problem(request, error)

    def act(self, request: Request, session: Session, form: Form) -> Response:
        """What a form of the screen asks for."""
        if not self.screen.opens_for(session.actor):
            return self._pages.problem(request, _not_for(session, self.screen.permission))
        visit = visit_of(request, session, form, self._store.clock.now())
        try:
            refuse_forged(request, session, form)
            act = self.screen.acts.get(form.text("act"))
            if act is None:
                raise InvalidInputError("this page does not support that action; reload the page")
            if act.dangerous:
                self.sessions.require_verified(session)
            with audited(self._acting(request, session, form.text("act"))):
                outcome = self._carried_out(request, act, self._allowed(visit, act.permission))
        except VerificationNeededError:
            return to(f"/verify?next={quote(request.url.path)}")
        except (ForeignFormError, DoneAlreadyError) as error:
            return self._pages.problem(request, error)
        except SubletError as error:
            return self._again(request, visit, error)
        return self._answer(request, session, outcome)

    def _acting(self, request: Request, session: Session, act: str) -> Acting:
        actor = session.actor
        place = self.screen.path.replace("/{", ".{").strip("/").replace("/", ".")
        source = request.client.host if request.client else ""
        return Acting(
            actor.id, actor.organization_id, actor.role, f"console.{place}.{act}"[:80], request.url.path, source
        )

    def _allowed(self, visit: Visit, permission: str) -> Visit:
        return replace(visit, actor=visit.actor.require(permission))

    def _carried_out(self, request: Request, act: Act, visit: Visit) -> Drawn | Go:
        if act.once is None:
            return act.do(visit)
        key = visit.form.once()
        asked = request_digest("POST", request.url.path, "", repr(sorted(visit.form.fields.items())).encode())
        once = Once(
            self._store,
            visit.session.actor.organization_id,
            f"form {visit.session.id} {key}",
            asked,
            200,
            Effect(act.once, lambda made: {}),
            "",
        )
        before = current.set(once)
        try:
            once.refuse_or_replay()
            return act.do(visit)
        except (AnsweredError, IdempotencyKeyReusedError) as error:
            # The form again, or the page before it with other values: each page has a key of its own.
            raise DoneAlreadyError() from error
        finally:
            current.reset(before)

    def _again(self, request: Request, visit: Visit, error: SubletError) -> Response:
        """The screen with what was wrong about the form, and what was typed."""
        try:
            drawn = self.screen.show(self._allowed(visit, self.screen.permission))
        except SubletError:
            return self._pages.problem(request, error)
        if isinstance(drawn, Go):
            return self._pages.problem(request, error)
        answer = self._answer(request, visit.session, drawn, (error, visit.form))
        if "retry_after_s" in error.details:
            answer.headers["Retry-After"] = str(error.details["retry_after_s"])
        return answer

    def _answer(
        self, request: Request, session: Session, outcome: Drawn | Go, failed: tuple[SubletError, Form] | None = None
    ) -> Response:
        error, form = failed or (None, None)
        if isinstance(outcome, Go):
            return to(outcome.path)
        typed = {name: text for name, text in (form.fields if error and form else {}).items() if "password" not in name}
        added = {
            "typed": typed,
            "frame": self._pages.frame(session),
            "here": outcome.values.get("here", self.screen.label),
            "error": error,
            "once": _once(),
        }
        return self._pages.draw(request, outcome.template, {**outcome.values, **added}, error.status if error else 200)


def _not_for(session: Session, permission: str) -> SubletError:
    try:
        session.actor.require(permission)
    except ForbiddenError as error:
        return error
    return ForbiddenError("only operators can open this page; use the pages above")


def _sign_in_path(request: Request) -> str:
    if request.method != "GET" or request.url.path in ("/", "/login"):
        return "/login"
    return f"/login?next={quote(request.url.path)}"


def _once() -> str:

    return secrets.token_hex(16)


def _same(one: str, other: str) -> bool:
    return hashlib.sha256(one.encode()).digest() == hashlib.sha256(other.encode("utf-8", "replace")).digest()
