"""Sign-in with another provider: the way there, the way back, and what the provider says about signing out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from sublet.accounts.oidc.model import ATTEMPT_LIFE
from sublet.accounts.people.model import Session
from sublet.console.cookies import attempt_in, drop_attempt, set_attempt
from sublet.console.doors import SIGN_IN, SIGN_OUT, Doors, entering
from sublet.console.forms import Form, own_path, read_form
from sublet.console.frame import HEADERS, Pages, to
from sublet.console.pages import signed_in
from sublet.console.signing import entered, sign_in_form, source_in
from sublet.store.audit import Acting
from sublet.store.audit import act as audited
from sublet.values.errors import NotFoundError, SubletError

QUERY_LENGTH_MAX = 8_192


def elsewhere_router(doors: Doors, pages: Pages) -> APIRouter:
    """GET /oidc/{provider}/start, …/verify and …/callback, and POST …/backchannel for the provider itself."""
    routes = APIRouter(include_in_schema=False)
    sessions, elsewhere = doors.sessions, doors.elsewhere

    def begun(request: Request, provider: str, then: str, session: Session | None) -> Response:
        try:
            url, secret = elsewhere.begin(provider, source_in(request)[0], then, session)
        except NotFoundError as error:
            return pages.problem(request, error)
        except SubletError as error:
            return sign_in_form(request, pages, elsewhere, then, ("", error))
        answer = RedirectResponse(url, 303, HEADERS)
        set_attempt(request, answer, secret, int(ATTEMPT_LIFE.total_seconds()))
        return answer

    # A link, and not a form: the policy of our pages lets forms lead to no other site.
    @routes.get("/oidc/{provider}/start")
    def start(request: Request, provider: str) -> Response:
        return begun(request, provider, own_path(request.query_params.get("next", ""), ""), None)

    @routes.get("/oidc/{provider}/verify")
    def verify(request: Request, provider: str) -> Response:
        then = own_path(request.query_params.get("next", ""))
        return signed_in(request, sessions, lambda session: begun(request, provider, then, session))

    @routes.get("/oidc/{provider}/callback")
    def callback(request: Request, provider: str) -> Response:
        query = dict(request.query_params) if len(request.url.query) <= QUERY_LENGTH_MAX else {}
        try:
            with audited(entering(request, SIGN_IN)):
                signed = elsewhere.finish(provider, attempt_in(request), query, *source_in(request))
        except SubletError as error:
            answer = sign_in_form(request, pages, elsewhere, "", ("", error))
            drop_attempt(request, answer)
            return answer
        if signed.token:
            answer = entered(request, sessions, pages, signed.token, signed.next_path)
        else:
            answer = to(signed.next_path or "/")
        drop_attempt(request, answer)
        return answer

    @routes.post("/oidc/{provider}/backchannel")
    def back_channel(request: Request, provider: str, sent: Annotated[Form, Depends(read_form)]) -> Response:
        try:
            with audited(Acting(f"oidc:{provider}", "", "", SIGN_OUT, request.url.path, source_in(request)[0])):
                elsewhere.logged_out(provider, sent.text("logout_token"))
        except SubletError as error:
            status = 400 if error.status == 401 else error.status
            return PlainTextResponse(f"{error.message}\n", status, HEADERS)
        return Response(status_code=200, headers=HEADERS)

    return routes
