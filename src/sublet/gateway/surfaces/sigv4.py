"""Amazon's signature of a request, version 4: what it says, and whether it is right.

Format: https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html. The signer names a key by its id, and shows
with a secret that both sides know that the request is theirs. Nothing here knows where secrets are kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from sublet.gateway.refusals import ClockSkewError, IncompleteSignatureError, SignatureMismatchError

ALGORITHM = b"AWS4-HMAC-SHA256"
SERVICE = b"bedrock"
SKEW_S_MAX = 300
"""How far the time of a signature may be from now, as at Amazon: for so long a request that was overheard could be sent again."""
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest().encode()
UNSIGNED = b"UNSIGNED-PAYLOAD"
_PARTS = re.compile(
    rb"AWS4-HMAC-SHA256 +Credential=([\x21-\x2b\x2d-\x7e]{1,512}), *SignedHeaders=([a-z0-9;._-]{1,4096}), *Signature="
)
_DATE = re.compile(rb"[0-9]{8}T[0-9]{6}Z")
_HEX = 64
_HASH = re.compile(rb"[0-9a-f]{64}")
_PLAIN = re.compile(rb"[A-Za-z0-9/_.~-]*")
# Without these in what is signed, a request could be sent to somebody else, or at another time.
_REQUIRED = (b"host", b"x-amz-date")

Headers = Sequence[tuple[bytes, bytes]]


class Signature(NamedTuple):
    """What a request's headers say of its signature. `payload` is the hash of the body that they state; empty where they state none,
    UNSIGNED where the body is not signed."""

    key_id: str
    scope: bytes
    date: bytes
    names: tuple[bytes, ...]
    claimed: bytes
    payload: bytes

    def check_time(self, now: datetime) -> None:
        """Raises ClockSkewError where it was not made about `now`."""
        made = _moment(self.date)
        skew_s = (now - made).total_seconds()
        if abs(skew_s) > SKEW_S_MAX:
            words = "has expired" if skew_s > 0 else "is not yet valid"
            raise ClockSkewError(
                f"The signature {words}: it was made at {self.date.decode()}, and it is {now:%Y%m%dT%H%M%SZ} here; "
                "set the clock of the client"
            )


@lru_cache(maxsize=256)
def _moment(date: bytes) -> datetime:
    """Raises IncompleteSignatureError."""
    try:
        return datetime.strptime(date.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise IncompleteSignatureError("X-Amz-Date is not a time; sign the request again") from error


def signature_of(headers: Headers) -> Signature | None:
    """The signature that the headers carry; None where they carry none. Raises IncompleteSignatureError."""
    named = dict(headers)
    authorization = named.get(b"authorization", b"")
    if not authorization.startswith(ALGORITHM):
        return None
    key_id, scope, names = _credential(authorization[:-_HEX])
    if not _HASH.fullmatch(authorization, len(authorization) - _HEX):
        raise IncompleteSignatureError("The signature is not 64 hexadecimal digits; sign the request again")
    date, payload = named.get(b"x-amz-date", b""), named.get(b"x-amz-content-sha256", b"")
    if date[:8] != scope[:8] or not _DATE.fullmatch(date):
        raise IncompleteSignatureError("X-Amz-Date is missing or is not the credential's date; sign the request again")
    if b"x-amz-security-token" in named:
        raise SignatureMismatchError(
            "Session tokens are not known here; sign with a key's access key id and secret access key alone"
        )
    if payload and payload != UNSIGNED and not _HASH.fullmatch(payload):
        raise IncompleteSignatureError(
            "X-Amz-Content-Sha256 must be the body's SHA-256 or UNSIGNED-PAYLOAD; bodies that are signed in chunks are not supported"
        )
    return Signature(key_id, scope, date, names, authorization[-_HEX:], payload)


@lru_cache(maxsize=1024)
def _credential(authorization: bytes) -> tuple[str, bytes, tuple[bytes, ...]]:
    """The key's id, the scope and the signed headers: what a client's requests of a day have in common. Raises
    IncompleteSignatureError, SignatureMismatchError."""
    found = _PARTS.fullmatch(authorization)
    if found is None:
        raise IncompleteSignatureError(
            "The Authorization header must have Credential, SignedHeaders and Signature; sign the request again"
        )
    key_id, _, scope = found[1].partition(b"/")
    parts = scope.split(b"/")
    if len(parts) != 4 or parts[2] != SERVICE or parts[3] != b"aws4_request":
        raise SignatureMismatchError("The credential must be scoped to a date, a region, bedrock and aws4_request")
    names = tuple(found[2].split(b";"))
    if any(name not in names for name in _REQUIRED):
        raise IncompleteSignatureError("host and x-amz-date must be among SignedHeaders; sign the request again")
    return key_id.decode(), scope, names


def signing_key(secret: str, scope: bytes) -> bytes:
    """What signatures of a scope are made with: of a day, a region and a service."""
    key = b"AWS4" + secret.encode()
    for part in scope.split(b"/"):
        key = hmac.digest(key, part, "sha256")
    return key


def check_signature(
    signature: Signature, key: bytes, method: bytes, target: bytes, headers: Headers, payload: bytes
) -> None:
    """`target` is the request's as it came, `payload` the hash of its body in hexadecimal, or what the signature says of that. Raises
    SignatureMismatchError."""
    canonical = canonical_request(signature.names, method, target, headers, payload)
    text = b"%b\n%b\n%b\n%b" % (
        ALGORITHM,
        signature.date,
        signature.scope,
        hashlib.sha256(canonical).hexdigest().encode(),
    )
    if not hmac.compare_digest(hmac.digest(key, text, "sha256").hex().encode(), signature.claimed):
        raise SignatureMismatchError()


def canonical_request(names: Sequence[bytes], method: bytes, target: bytes, headers: Headers, payload: bytes) -> bytes:
    """What is signed of a request, in Amazon's form."""
    if not target.startswith(b"/"):
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path, _, query = target.partition(b"?")
    wanted: dict[bytes, bytes] = dict.fromkeys(names, b"")
    for name, value in headers:
        if name in wanted:
            if b"  " in value or b"\t" in value:
                value = b" ".join(value.split())
            wanted[name] = b"%b,%b" % (wanted[name], value.strip()) if wanted[name] else value.strip()
    lines = b"".join([b"%b:%b\n" % item for item in wanted.items()])
    return b"%b\n%b\n%b\n%b\n%b\n%b" % (method, _path(path), _query(query), lines, b";".join(names), payload)


@lru_cache(maxsize=1024)
def _path(path: bytes) -> bytes:
    """Encoded once more than it was sent, as all services but one want it, without dots that lead upward."""
    if b"/." in path or b"//" in path:
        path = _without_dots(path)
    return path if _PLAIN.fullmatch(path) else quote_from_bytes(path, safe="/~").encode()


def _without_dots(path: bytes) -> bytes:
    found: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            found = found[:-1]
        elif part and part != b".":
            found.append(part)
    ends = b"/" if path.endswith(b"/") and found else b""
    return b"/" + b"/".join(found) + ends


def _query(query: bytes) -> bytes:
    if not query:
        return b""
    pairs = sorted((name, value) for name, _, value in (item.partition(b"=") for item in query.split(b"&")))
    return b"&".join(b"%b=%b" % pair for pair in pairs)
