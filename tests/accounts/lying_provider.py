"""An OpenID provider in the test's own process that lies on request. `joserfc` is imported by those tests that use this."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from sublet.values.clock import Clock

ISSUER = "https://idp.test"
CHANGES: dict[str, dict[str, Any]] = {
    "issuer": {"iss": "https://other.test"},
    "audience": {"aud": "somebody"},
    "two_audiences": {"aud": ["sublet", "x"]},
    "no_audience": {"aud": []},
    "authorized_party": {"azp": "somebody"},
    "nonce": {"nonce": "old"},
    "no_nonce": {"nonce": None},
    "subject": {"sub": ""},
    "subject_number": {"sub": 7},
    "no_expiry": {"exp": None},
    "expiry_text": {"exp": "tomorrow"},
}


class LyingProvider:
    """Set `lie` to what it lies about. What it says of the person is `person`; `skew_s` is how wrong its clock is."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.lie, self.skew_s = clock, "", 0
        self.person: dict[str, Any] = {
            "sub": "ada",
            "email": "ada@acme.test",
            "email_verified": True,
            "name": "Ada Lovelace",
            "groups": ["admins"],
        }
        self.asked: list[str] = []
        self.verified_by = ""
        self._key = RSAKey.generate_key(2048, {"kid": "one"})
        self._codes: dict[str, dict[str, str]] = {}
        self.http = httpx2.Client(transport=httpx2.MockTransport(self._answer))

    def sign_in(self, url: str) -> dict[str, str]:
        """What the browser brings back from the provider's page at `url`."""
        asked = dict(parse_qsl(urlsplit(url).query))
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked
        iss = "https://other.test" if self.lie == "mix_up" else ISSUER
        answer = {"code": code, "state": "x" if self.lie == "state" else asked["state"], "iss": iss}
        if self.lie == "no_iss":
            del answer["iss"]
        return answer

    def logout_token(self, **changes: Any) -> str:
        """A token of back-channel logout."""
        now = round(self.clock.now().timestamp())
        claims = {"iss": ISSUER, "aud": "sublet", "iat": now, "exp": now + 120, "jti": "j", "sub": "ada"}
        claims["events"] = {"http://schemas.openid.net/event/backchannel-logout": {}}
        return self._sign(claims | changes)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.asked.append(path)
        if self.lie == "away":
            raise httpx2.ConnectError("refused")
        if self.lie == "broken":
            return httpx2.Response(500)
        if self.lie == "not_json":
            return httpx2.Response(200, text="<html>")
        if self.lie == "endless":
            return httpx2.Response(200, content=b"[" * (2 * 1024 * 1024))
        if path == "/.well-known/openid-configuration":
            return httpx2.Response(200, json=self._metadata())
        if path == "/jwks":
            return httpx2.Response(200, json={"keys": [self._key.as_dict(private=False)]})
        if path == "/userinfo":
            sub = "eve" if self.lie == "userinfo" else self.person["sub"]
            return httpx2.Response(200, json={**self.person, "sub": sub})
        return self._token(dict(parse_qsl(request.content.decode())), request.headers.get("authorization", ""))

    def _metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "issuer": "https://other.test" if self.lie == "discovery_issuer" else ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
            "userinfo_endpoint": f"{ISSUER}/userinfo",
            "end_session_endpoint": f"{ISSUER}/end",
            "code_challenge_methods_supported": ["plain" if self.lie == "no_pkce" else "S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        if self.lie == "plain_http":
            found["token_endpoint"] = "http://idp.test/token"
        return found

    def _token(self, form: dict[str, str], authorization: str) -> httpx2.Response:
        asked = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or form["redirect_uri"] != asked["redirect_uri"]:
            return httpx2.Response(400, json={"error": "invalid_grant"})
        self.verified_by = authorization
        answer = {"access_token": "a", "token_type": "Bearer", "id_token": self._sign(self._claims(asked))}
        if self.lie == "no_token":
            del answer["id_token"]
        return httpx2.Response(200, json=answer)

    def _claims(self, asked: dict[str, str]) -> dict[str, Any]:
        now = round(self.clock.now().timestamp()) + self.skew_s
        claims = {"iss": ISSUER, "aud": asked["client_id"], "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims |= {"auth_time": now - (3_600 if self.lie == "old_sign_in" else 0), "sid": "there", **self.person}
        if self.lie == "no_sign_in_time":
            del claims["auth_time"]
        if self.lie in ("expired", "future"):
            claims |= {"exp": now - 301} if self.lie == "expired" else {"iat": now + 3_600}
        if self.lie in ("userinfo", "in_userinfo"):
            claims.pop("groups")
        changed = claims | CHANGES.get(self.lie, {})
        return {name: value for name, value in changed.items() if value is not None}

    def _sign(self, claims: dict[str, Any]) -> str:
        if self.lie == "none":
            return f"{_part({'alg': 'none'})}.{_part(claims)}."
        if self.lie == "hs256":
            # Signed with the public key's text, for libraries that mistake it for a shared one.
            head = f"{_part({'alg': 'HS256', 'kid': 'one'})}.{_part(claims)}"
            mac = hmac.digest(self._key.as_pem(private=False), head.encode(), "sha256")
            return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        key: Any = RSAKey.generate_key(2048, {"kid": "one"}) if self.lie == "foreign_key" else self._key
        if self.lie == "own_key":
            # The key comes with the token itself.
            key = ECKey.generate_key("P-256", {"kid": "mine"})
            return jwt.encode({"alg": "ES256", "kid": "mine", "jwk": key.as_dict(private=False)}, claims, key)
        if self.lie == "rolled":
            self._key = key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4)})
        return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)


def _part(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
