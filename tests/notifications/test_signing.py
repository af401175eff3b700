"""Signatures are what the Standard Webhooks specification says, checked with numbers from outside."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from sublet.notifications.signing import new_secret, signed_headers, signing_key
from sublet.values.errors import InvalidInputError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_example_that_implementations_share() -> None:
    """Id, time and body of the specification's reference libraries' own test; openssl gives the same signature."""
    body = b'{"test": 2432232314}'
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), body, [SECRET])
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_are_two_signatures() -> None:
    old, new = new_secret(), new_secret()
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    headers = signed_headers("oev_1", moment, b"{}", [new, old])
    expected = []
    for secret in (new, old):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"oev_1.{int(moment.timestamp())}.{{}}".encode()
        expected.append("v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode())
    assert headers["webhook-signature"].split(" ") == expected
    assert len(base64.b64decode(new.removeprefix("whsec_"))) == 32 and new != old


def test_keys() -> None:
    assert signing_key("any text") == b"any text"
    with pytest.raises(InvalidInputError, match="base64"):
        signing_key("whsec_?")
