"""Passkeys: the pages that sign in with them, and the one on which a person keeps their own. They need JavaScript."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from sublet.accounts.passkeys.model import CHALLENGE_LIFE, Asked, PasskeyPlaceError
from sublet.console.cookies import attempt_in, drop_attempt, set_attempt
from sublet.console.doors import SIGN_IN, Doors, entering
from sublet.console.forms import Form, own_path, read_form, refuse_foreign
from sublet.console.frame import Pages
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.console.signing import entered, source_in
from sublet.store.audit import act as audited
from sublet.values.errors import SubletError

PATH = "/account/passkeys"
_ANYBODY = "identity:read"


def passkey_router(doors: Doors, pages: Pages) -> APIRouter:
    """GET and POST /login/passkey, and GET /login/second for somebody whose password was right."""
    routes = APIRouter(include_in_schema=False)
    passkeys = doors.passkeys

    def drawn(request: Request, asked: Asked | None, error: SubletError | None, *, second: bool = False) -> Response:
        values = {"asked": asked, "error": error, "second": second}
        answer = pages.draw(request, "passkey.html", values, error.status if error else 200)
        if error is not None and "retry_after_s" in error.details:
            answer.headers["Retry-After"] = str(error.details["retry_after_s"])
        if asked is not None:
            set_attempt(request, answer, asked.secret, int(CHALLENGE_LIFE.total_seconds()))
        return answer

    @routes.get("/login/passkey")
    def alone(request: Request) -> Response:
        then = own_path(request.query_params.get("next", ""), "")
        try:
            return drawn(request, passkeys.begin(doors.place(request), source_in(request)[0], then), None)
        except SubletError as error:
            return drawn(request, None, error)

    @routes.get("/login/second")
    def second(request: Request) -> Response:
        try:
            asked = passkeys.options_of(attempt_in(request), doors.place(request), source_in(request)[0])
        except SubletError as error:
            return drawn(request, None, error)
        return drawn(request, asked, None, second=True)

    @routes.post("/login/passkey")
    def sign_in(request: Request, sent: Annotated[Form, Depends(read_form)]) -> Response:
        try:
            refuse_foreign(request)
            place, credential = doors.place(request), sent.text("credential")
            with audited(entering(request, SIGN_IN)):
                token, then = passkeys.finish(attempt_in(request), place, credential, *source_in(request))
        except SubletError as error:
            return drawn(request, None, error)
        answer = entered(request, doors.sessions, pages, token, then)
        drop_attempt(request, answer)
        return answer

    return routes


def passkeys_screen(doors: Doors) -> Screen:
    """`/account/passkeys`. It opens for somebody who proved within the last minutes who they are: the browser makes the passkey
    before the form is sent."""
    passkeys = doors.passkeys

    def show(visit: Visit) -> Drawn | Go:
        session = visit.session
        if session.person is None:
            return Go("/account")
        try:
            doors.sessions.require_verified(session)
        except SubletError:
            return Go(f"/verify?next={PATH}")
        asked, place_error = None, ""
        try:
            asked = passkeys.begin_add(session, doors.place_at(visit))
        except PasskeyPlaceError as error:
            place_error = error.message
        return Drawn(
            "passkeys.html",
            {
                "passkeys": passkeys.listed(session.person.id),
                "required": passkeys.is_required(session.person.id),
                "has_password": session.person.has_password,
                "asked": asked,
                "place_error": place_error,
                "at": visit.at,
            },
        )

    def add(visit: Visit) -> Go:
        place = doors.place_at(visit)
        passkeys.add(visit.session, place, visit.form.text("name"), visit.form.text("credential"))
        return Go(PATH)

    def remove(visit: Visit) -> Go:
        passkeys.remove(visit.session, visit.form.text("passkey"))
        return Go(PATH)

    def require(visit: Visit) -> Go:
        passkeys.require(visit.session, True)
        return Go(PATH)

    def release(visit: Visit) -> Go:
        passkeys.require(visit.session, False)
        return Go(PATH)

    acts = {
        "add": Act(_ANYBODY, add, dangerous=True),
        "remove": Act(_ANYBODY, remove, dangerous=True),
        "require": Act(_ANYBODY, require, dangerous=True),
        "release": Act(_ANYBODY, release, dangerous=True),
    }
    return Screen(PATH, "", _ANYBODY, show, acts)
