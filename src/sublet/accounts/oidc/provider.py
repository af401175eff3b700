"""One OpenID Connect provider, asked over HTTPS: discovery, keys, tokens (OpenID Connect Core 1.0; RFC 7636; RFC 9207).

`joserfc` is imported when the first token is read: most processes never read one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
import structlog

from sublet.accounts.oidc.model import ATTEMPT_LIFE, SKEW_S, VERIFY, Attempt, Identity, ProviderAwayError
from sublet.accounts.oidc.model import ProviderRefusedError as Refused
from sublet.config.identity import OidcProvider, is_protected
from sublet.values.clock import Clock
from sublet.values.errors import InvalidInputError

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
"""Signatures by a key pair alone: with HMAC, anyone who knows the client secret, or takes a public key for one, could sign."""
METADATA_S, KEYS_S, KEYS_AGAIN_S = 3_600, 3_600, 10
ANSWER_BYTES_MAX = 1024 * 1024
TIMEOUT_S = 10
GROUPS_MAX = 1_000
AT_ONCE_MAX, WAIT_S_MAX, AWAY_S = 8, 2, 5
"""Requests to a provider at the same time, and how long others wait for them. One that does not answer is not asked again for
AWAY_S, so that it never keeps the console's threads from everybody else."""
BACK_CHANNEL_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")

log = structlog.get_logger("sublet.accounts")


class Provider:
    """The provider that the section `name` of the settings states. Its documents are kept for an hour. Safe for several threads."""

    def __init__(
        self, name: str, settings: OidcProvider, redirect_uri: str, clock: Clock, http: httpx2.Client | None = None
    ) -> None:
        self.name, self.settings, self.redirect_uri = name, settings, redirect_uri
        self._clock, self._client = clock, http
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(AT_ONCE_MAX)
        self._away_until = 0
        self._metadata: tuple[int, dict[str, Any]] | None = None
        self._keys: tuple[int, Any] | None = None

    # -- the way there

    def begin(self, purpose: str, next_path: str, session_id: str = "") -> tuple[str, Attempt]:
        """Where to send the browser, and what to remember of it. Raises ProviderAwayError, ProviderRefusedError."""
        meta = self.metadata()
        attempt = Attempt(
            self.name,
            purpose,
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(48),
            next_path,
            session_id,
            self._clock.now(),
        )
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": self.settings.scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": _challenge(attempt.verifier),
            "code_challenge_method": "S256",
        }
        if purpose == VERIFY:
            query |= {"prompt": "login", "max_age": "0"}
        address = str(meta["authorization_endpoint"])
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", attempt

    # -- the way back

    def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> Identity:
        """Who came back with `answer`, the callback's query; the attempt is gone from the database already. Raises
        ProviderRefusedError, ProviderAwayError."""
        if attempt.provider != self.name:
            raise self._refused("mixed_up", "the attempt belongs to another provider")
        if not hmac.compare_digest(attempt.state.encode(), answer.get("state", "").encode()):
            raise self._refused("state", "it is not the state that was sent")
        if self._clock.now() - attempt.started_at > ATTEMPT_LIFE:
            raise self._refused("too_late", "it took longer than ten minutes")
        meta, said = self.metadata(), answer.get("iss")
        if said != self.settings.issuer and (said or meta.get("authorization_response_iss_parameter_supported")):
            raise self._refused("mixed_up", f"the answer is from {said!r}")
        if "error" in answer:
            raise self._refused("refused", answer["error"])
        tokens = self._tokens(meta, answer.get("code", ""), attempt.verifier)
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise self._refused("no_id_token", "the token endpoint gave none")
        claims = self._checked(id_token, attempt.nonce)
        claims = self._completed(meta, claims, tokens.get("access_token"))
        return self._identity(claims, id_token)

    def logged_out(self, token: str) -> tuple[str, str]:
        """Whom a logout token signs out: the subject, and the provider's session, each empty where it isn't named. Raises
        ProviderRefusedError, ProviderAwayError (OpenID Connect Back-Channel Logout 1.0, section 2.6)."""
        claims = self._checked(token, None)
        events = claims.get("events")
        if not isinstance(events, dict) or BACK_CHANNEL_EVENT not in events or "nonce" in claims:
            raise self._refused("no_logout_token", "it is another kind of token")
        subject, session = _text(claims.get("sub")), _text(claims.get("sid"))
        if not subject and not session:
            raise self._refused("no_subject", "it names neither a person nor a session")
        return subject, session

    def logout_url(self, id_token: str, back_to: str) -> str:
        """Where the browser ends the provider's own session; empty where the provider has no such address."""
        try:
            address = self.metadata().get("end_session_endpoint")
        except (ProviderAwayError, Refused):
            return ""
        if not isinstance(address, str) or not self._is_ours(address):
            return ""
        query = {"client_id": self.settings.client_id, "post_logout_redirect_uri": back_to}
        if id_token:
            query["id_token_hint"] = id_token
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    # -- documents

    def metadata(self) -> dict[str, Any]:
        """The discovery document, checked. Raises ProviderAwayError, ProviderRefusedError."""
        with self._alone():
            if self._metadata is not None and self._now() - self._metadata[0] < METADATA_S:
                return self._metadata[1]
            found = self._get(f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self.settings.issuer:
                raise self._refused("wrong_issuer", f"the discovery document says {found.get('issuer')!r}")
            if "S256" not in found.get("code_challenge_methods_supported", ["S256"]):
                raise self._refused("no_pkce", "the provider does not support PKCE with S256")
            for name in _ENDPOINTS:
                if not isinstance(found.get(name), str) or not self._is_ours(found[name]):
                    raise self._refused("discovery", f"{name} is missing or not https")
            self._metadata = (self._now(), found)
            return found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=WAIT_S_MAX):
            raise ProviderAwayError(retry_after_s=AWAY_S)
        try:
            yield
        finally:
            self._lock.release()

    def _is_ours(self, address: str) -> bool:
        return is_protected(address) and (address.startswith("https:") or self.settings.issuer.startswith("http:"))

    def _tokens(self, meta: dict[str, Any], code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        secret = self.secret()
        known = meta.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        headers = {}
        if secret and "client_secret_basic" in known:
            pair = f"{quote(self.settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self.settings.client_id
            if secret:
                form["client_secret"] = secret
        return self._ask("POST", str(meta["token_endpoint"]), headers, form, refusal="the code was not accepted")

    def secret(self) -> str:
        """The client secret, read each time, so that a file may be replaced. Raises InvalidInputError."""
        path = self.settings.client_secret_file
        if path is None:
            return self.settings.client_secret.get_secret_value()
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"oidc.{self.name}.client_secret_file {path} can't be read") from error

    def _completed(self, meta: dict[str, Any], claims: dict[str, Any], access_token: Any) -> dict[str, Any]:
        """With what only the userinfo endpoint tells. What the signed token says wins."""
        address = meta.get("userinfo_endpoint")
        lacks = claims.get(self.settings.groups_claim) is None or "email" not in claims
        if not lacks or not isinstance(address, str) or not isinstance(access_token, str) or not self._is_ours(address):
            return claims
        more = self._get(address, {"Authorization": f"Bearer {access_token}"})
        if more.get("sub") != claims["sub"]:
            raise self._refused("userinfo_subject", "userinfo is about somebody else")
        return {**more, **claims}

    # -- tokens

    def _checked(self, token: str, nonce: str | None) -> dict[str, Any]:
        """The claims of a token that the provider signed for us, now. `nonce` is None for a logout token."""
        claims = self._decoded(token)
        now, audience = self._now(), claims.get("aud")
        audience = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
        mine = self.settings.client_id
        if claims.get("iss") != self.settings.issuer:
            raise self._refused("wrong_issuer", f"the token is from {claims.get('iss')!r}")
        if mine not in audience or (len(audience) > 1 and claims.get("azp") != mine) or claims.get("azp", mine) != mine:
            raise self._refused("wrong_audience", "the token is for somebody else")
        issued, expires = _number(claims.get("iat")), _number(claims.get("exp"))
        if issued is None or issued > now + SKEW_S or now - issued > ATTEMPT_LIFE.total_seconds() + SKEW_S:
            raise self._refused("issued_at", "the token was not issued just now; compare the clocks")
        if (expires is None and nonce is not None) or (expires is not None and now > expires + SKEW_S):
            raise self._refused("expired", "the token has expired; compare the clocks")
        if (_number(claims.get("nbf")) or 0) > now + SKEW_S:
            raise self._refused("issued_at", "the token is not valid yet; compare the clocks")
        if nonce is not None:
            if not _text(claims.get("sub")) or len(claims["sub"]) > 255:
                raise self._refused("no_subject", "the token names nobody")
            if not hmac.compare_digest(nonce.encode(), _text(claims.get("nonce")).encode()):
                raise self._refused("nonce", "the token belongs to another sign-in")
        return claims

    def _decoded(self, token: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError

        try:
            try:
                found = jwt.decode(token, self._key_set(), algorithms=ALGORITHMS)
            except InvalidKeyIdError:
                # The provider may have replaced its keys.
                found = jwt.decode(token, self._key_set(again=True), algorithms=ALGORITHMS)
        except (JoseError, ValueError, TypeError) as error:
            raise self._refused("signature", type(error).__name__) from error
        return dict(found.claims)

    def _key_set(self, *, again: bool = False) -> Any:
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        address = str(self.metadata()["jwks_uri"])
        with self._alone():
            kept_s = KEYS_AGAIN_S if again else KEYS_S
            if self._keys is None or self._now() - self._keys[0] >= kept_s:
                document = self._get(address)
                usable = [key for key in document.get("keys", []) if isinstance(key, dict) and _signs(key)]
                try:
                    self._keys = (self._now(), KeySet.import_key_set({"keys": usable}))
                except (JoseError, ValueError, TypeError, KeyError) as error:
                    raise self._refused("keys", type(error).__name__) from error
            return self._keys[1]

    def _identity(self, claims: dict[str, Any], id_token: str) -> Identity:
        said = claims.get(self.settings.groups_claim)
        # Some providers state a single group as a string.
        groups = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        at = _number(claims.get("auth_time"))
        verified = self.settings.email_verified == "always" or claims.get("email_verified") is True
        return Identity(
            self.settings.issuer,
            claims["sub"],
            _text(claims.get("email")),
            verified,
            _text(claims.get("name")) or _text(claims.get("preferred_username")),
            tuple(group for group in groups if isinstance(group, str))[:GROUPS_MAX],
            _text(claims.get("sid"))[:255],
            datetime.fromtimestamp(at, UTC) if at is not None and 0 <= at < 2**33 else None,
            id_token,
        )

    # -- the network

    def _get(self, address: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        return self._ask("GET", address, headers or {}, None)

    def _ask(
        self, method: str, address: str, headers: dict[str, str], form: dict[str, str] | None, refusal: str = ""
    ) -> dict[str, Any]:
        """A JSON object, of at most ANSWER_BYTES_MAX. Redirects are not followed: an address is where it says."""
        if self._now() < self._away_until or not self._turns.acquire(timeout=WAIT_S_MAX):
            raise ProviderAwayError(retry_after_s=AWAY_S)
        client = self._client or httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False)
        body = b""
        try:
            with client.stream(method, address, headers=headers, data=form) as answer:
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        raise self._refused("answer", "the provider's answer is too long")
                status = answer.status_code
        except httpx2.HTTPError as error:
            self._away_until = self._now() + AWAY_S
            log.warning("provider_away", provider=self.name, reason=type(error).__name__)
            raise ProviderAwayError(retry_after_s=60) from error
        finally:
            self._turns.release()
            if client is not self._client:
                client.close()
        if refusal and 400 <= status < 500:
            raise self._refused("code", f"{refusal} ({status})")
        if status != 200:
            log.warning("provider_away", provider=self.name, reason=f"status {status}")
            raise ProviderAwayError(retry_after_s=60)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._refused("answer", "the provider's answer is not JSON") from error
        if not isinstance(found, dict):
            raise self._refused("answer", "the provider's answer is not an object")
        return found

    def _refused(self, reason: str, detail: str) -> Refused:
        """For the log with its detail; the person gets a sentence and the reason's name."""
        log.warning("sign_in_refused", provider=self.name, reason=reason, detail=detail[:200])
        return Refused(f"the sign-in with {self.label} was not accepted ({reason}); start again", reason=reason)

    @property
    def label(self) -> str:
        """What the provider is called on pages."""
        return self.settings.label or self.name

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _signs(key: dict[str, Any]) -> bool:
    """Whether it is a public key for signatures: a shared one in a published set is no secret."""
    return key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    """A moment in whole seconds; a provider may write it with a fraction."""
    if isinstance(value, bool | str | bytes):
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None
