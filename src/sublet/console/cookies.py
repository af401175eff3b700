"""The cookie that a signed-in browser carries. Over https its name binds it to this host and to https."""

from __future__ import annotations

from fastapi import Request, Response

from sublet.accounts.people.sessions import LIFE

COOKIE = "sublet_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
ATTEMPT = "sublet_sign_in"
"""Binds a sign-in at another provider to the browser that began it."""


def token_in(request: Request) -> str | None:
    """The session's token, if the browser has one."""
    return request.cookies.get(_name(request))


def set_token(request: Request, answer: Response, token: str) -> None:
    """Lax, and not strict: after a sign-in elsewhere the browser comes back from another site, and must bring it along."""
    answer.set_cookie(
        _name(request),
        token,
        max_age=int(LIFE.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=_is_secure(request),
    )


def drop_token(request: Request, answer: Response) -> None:
    """Nobody is signed in from now on."""
    answer.delete_cookie(_name(request), httponly=True, samesite="lax", secure=_is_secure(request))


def attempt_in(request: Request) -> str:
    """The secret of the sign-in that this browser began elsewhere, empty without one."""
    return request.cookies.get(_attempt_name(request), "")


def set_attempt(request: Request, answer: Response, secret: str, life_s: int) -> None:
    """The browser brings it back from the provider, once."""
    answer.set_cookie(
        _attempt_name(request), secret, max_age=life_s, httponly=True, samesite="lax", secure=_is_secure(request)
    )


def drop_attempt(request: Request, answer: Response) -> None:
    """The sign-in is over."""
    answer.delete_cookie(_attempt_name(request), httponly=True, samesite="lax", secure=_is_secure(request))


def _attempt_name(request: Request) -> str:
    return f"__Host-{ATTEMPT}" if _is_secure(request) else ATTEMPT


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _name(request: Request) -> str:
    return SECURE_COOKIE if _is_secure(request) else COOKIE
