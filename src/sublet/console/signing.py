"""Signing in and out, joining by an invitation, and setting a forgotten password: what people do before they are in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from sublet.accounts.oidc.service import SignInElsewhere
from sublet.accounts.passkeys.model import CHALLENGE_LIFE, Asked, PasskeyPlaceError
from sublet.accounts.people.model import SecondStepError, Session, WrongPasswordError
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import Sessions
from sublet.console.cookies import drop_token, set_attempt, set_token, token_in
from sublet.console.doors import JOIN, SIGN_IN, SIGN_OUT, VERIFY, Doors, entering
from sublet.console.forms import Form, own_path, read_form, refuse_foreign
from sublet.console.frame import Pages, to
from sublet.console.pages import refuse_forged, signed_in
from sublet.store.audit import act as audited
from sublet.values.errors import InvalidInputError, SubletError, UnauthenticatedError

WRONG_KEY = "This key is unknown, expired or revoked; use another one."
TWO_PASSWORDS = "the passwords don't match; enter the same one twice"

Sent = Annotated[Form, Depends(read_form)]


def signing_router(doors: Doors, pages: Pages) -> APIRouter:
    """GET and POST /login, /join, /forgot, /reset and /verify, POST /logout."""
    routes = APIRouter(include_in_schema=False)
    _add_sign_in(routes, doors, pages)
    _add_sign_out(routes, doors, pages)
    _add_join(routes, doors, pages)
    _add_reset(routes, doors.people, pages)
    _add_verify(routes, doors, pages)
    return routes


def _add_sign_in(routes: APIRouter, doors: Doors, pages: Pages) -> None:
    sessions, elsewhere = doors.sessions, doors.elsewhere

    def form(request: Request, then: str, email: str = "", error: SubletError | None = None) -> Response:
        return sign_in_form(request, pages, elsewhere, then, (email, error))

    @routes.get("/login")
    def sign_in_page(request: Request) -> Response:
        session = sessions.find(token_in(request))
        then = own_path(request.query_params.get("next", ""), "")
        return to(then or pages.first(session)) if session is not None else form(request, then)

    @routes.post("/login")
    def sign_in(request: Request, sent: Sent) -> Response:
        then, email = "", ""
        address, agent = source_in(request)
        try:
            refuse_foreign(request)
            then, email = own_path(sent.text("next"), ""), sent.text("email")
            with audited(entering(request, SIGN_IN)):
                if "email" in sent.fields:
                    token = sessions.open_with_password(email, sent.text("password"), address, agent)
                else:
                    token = sessions.open_with_key(sent.text("key"), address, agent)
        except SecondStepError as error:
            return second_step(request, doors, error.person_id, then)
        except WrongPasswordError as error:
            return form(request, then, email, error)
        except UnauthenticatedError:
            return form(request, then, "", UnauthenticatedError(WRONG_KEY))
        except SubletError as error:
            return form(request, then, email, error)
        return entered(request, sessions, pages, token, then)


def sign_in_form(
    request: Request, pages: Pages, elsewhere: SignInElsewhere, then: str, failed: tuple[str, SubletError | None]
) -> Response:
    """The sign-in page; with what was typed as the address, and what was wrong."""
    email, error = failed
    values = {
        "error": error,
        "next": then,
        "email": email,
        "done": request.query_params.get("done", ""),
        "providers": elsewhere.choices,
    }
    return _with_wait(pages.draw(request, "sign_in.html", values, error.status if error else 200), error)


def _add_sign_out(routes: APIRouter, doors: Doors, pages: Pages) -> None:
    sessions, elsewhere = doors.sessions, doors.elsewhere

    @routes.post("/logout")
    def sign_out(request: Request, sent: Sent) -> Response:
        session, onward = sessions.find(token_in(request)), ""
        if session is not None:
            try:
                refuse_forged(request, session, sent)
            except SubletError as error:
                return pages.problem(request, error)
            onward = elsewhere.logout_url(session)
            with audited(entering(request, SIGN_OUT, session)):
                sessions.close(token_in(request))
        # A form may not lead to another site, not even by a redirect; a page may.
        answer = pages.draw(request, "signed_out.html", {"onward": onward}) if onward else to("/login")
        drop_token(request, answer)
        return answer


def _add_join(routes: APIRouter, doors: Doors, pages: Pages) -> None:
    sessions, people = doors.sessions, doors.people

    def shown(request: Request, secret: str, name: str = "", error: SubletError | None = None) -> Response:
        try:
            values = {"offer": people.offer(secret), "secret": secret, "name": name, "error": error}
        except SubletError as over:
            return pages.problem(request, over)
        return _with_wait(pages.draw(request, "join.html", values, error.status if error else 200), error)

    @routes.get("/join")
    def join_page(request: Request) -> Response:
        return shown(request, request.query_params.get("secret", ""))

    @routes.post("/join")
    def join(request: Request, sent: Sent) -> Response:
        secret = ""
        address, agent = source_in(request)
        try:
            refuse_foreign(request)
            secret = sent.text("secret")
            if not people.offer(secret).known and sent.text("password") != sent.text("again"):
                raise InvalidInputError(TWO_PASSWORDS)
            with audited(entering(request, JOIN)) as who:
                person = people.accept(secret, sent.text("name"), sent.text("password"), address)
                who.actor_id = person.id
            sessions.refuse_without_second(person.id)
            with audited(entering(request, SIGN_IN)):
                token = sessions.open_person(person.id, address, agent)
        except SecondStepError as error:
            return second_step(request, doors, error.person_id, "")
        except SubletError as error:
            return shown(request, secret, sent.fields.get("name", ""), error)
        return entered(request, sessions, pages, token, "")


def _add_reset(routes: APIRouter, people: People, pages: Pages) -> None:
    @routes.get("/forgot")
    def forgot_page(request: Request) -> Response:
        return pages.draw(request, "forgot.html", {"sent": False, "error": None})

    @routes.post("/forgot")
    def forgot(request: Request, sent: Sent) -> Response:
        try:
            refuse_foreign(request)
            people.ask_reset(sent.text("email"), source_in(request)[0])
        except SubletError as error:
            return pages.draw(request, "forgot.html", {"sent": False, "error": error}, error.status)
        return pages.draw(request, "forgot.html", {"sent": True, "error": None})

    def shown(request: Request, secret: str, error: SubletError | None = None) -> Response:
        try:
            values = {"person": people.reset_person(secret), "secret": secret, "error": error}
        except SubletError as over:
            return pages.problem(request, over)
        return pages.draw(request, "reset.html", values, error.status if error else 200)

    @routes.get("/reset")
    def reset_page(request: Request) -> Response:
        return shown(request, request.query_params.get("secret", ""))

    @routes.post("/reset")
    def reset(request: Request, sent: Sent) -> Response:
        secret = ""
        try:
            refuse_foreign(request)
            secret = sent.text("secret")
            if sent.text("password") != sent.text("again"):
                raise InvalidInputError(TWO_PASSWORDS)
            people.reset(secret, sent.text("password"))
        except SubletError as error:
            return shown(request, secret, error)
        return to("/login?done=reset")


def _add_verify(routes: APIRouter, doors: Doors, pages: Pages) -> None:
    sessions, elsewhere, passkeys = doors.sessions, doors.elsewhere, doors.passkeys

    def asked(request: Request, session: Session) -> Asked | None:
        try:
            return passkeys.begin_verify(session, doors.place(request))
        except PasskeyPlaceError:
            return None

    def shown(request: Request, session: Session, then: str, error: SubletError | None = None) -> Response:
        values = {
            "next": then,
            "error": error,
            "form_token": session.form_token,
            "email": session.person.email if session.person else "",
            "has_password": session.person is None or session.person.has_password,
            "provider": elsewhere.choice_of(session),
            "asked": asked(request, session),
        }
        return _with_wait(pages.draw(request, "verify.html", values, error.status if error else 200), error)

    @routes.get("/verify")
    def verify_page(request: Request) -> Response:
        then = own_path(request.query_params.get("next", ""))
        return signed_in(request, sessions, lambda session: shown(request, session, then))

    @routes.post("/verify")
    def verify(request: Request, sent: Sent) -> Response:
        def answer(session: Session) -> Response:
            then = "/"
            try:
                refuse_forged(request, session, sent)
                then = own_path(sent.text("next"))
                with audited(entering(request, VERIFY, session)):
                    if sent.text("credential"):
                        passkeys.verify(session, doors.place(request), sent.text("credential"))
                    else:
                        sessions.verify(session, sent.text("password"), source_in(request)[0])
            except SubletError as error:
                return shown(request, session, then, error)
            return to(then)

        return signed_in(request, sessions, answer)


def second_step(request: Request, doors: Doors, person_id: str, then: str) -> Response:
    """On to the passkey of somebody whose password was right. The browser's session from before ends here already."""
    doors.sessions.close(token_in(request))
    secret = doors.passkeys.begin_second(person_id, source_in(request)[0], then)
    answer = to("/login/second")
    drop_token(request, answer)
    set_attempt(request, answer, secret, int(CHALLENGE_LIFE.total_seconds()))
    return answer


def entered(request: Request, sessions: Sessions, pages: Pages, token: str, then: str) -> Response:
    """Into the console with a session that is new; the browser's session from before ends."""
    sessions.close(token_in(request))
    session = sessions.find(token)
    answer = to(then or (pages.first(session) if session else "/"))
    set_token(request, answer, token)
    return answer


def source_in(request: Request) -> tuple[str, str]:
    """The address that a request came from, and what its browser calls itself."""
    return request.client.host if request.client else "", request.headers.get("user-agent", "")


def _with_wait(answer: Response, error: SubletError | None) -> Response:
    if error is not None and "retry_after_s" in error.details:
        answer.headers["Retry-After"] = str(error.details["retry_after_s"])
    return answer
