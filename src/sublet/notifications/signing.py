"""Signatures of webhooks, by the Standard Webhooks specification: HMAC-SHA256 over id.timestamp.body.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

from sublet.values.errors import InvalidInputError

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """A secret as the specification writes it: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for. One without `whsec_` is the key itself. Raises InvalidInputError."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError(f"a secret that begins with {PREFIX} must continue in base64") from error


def signed_headers(message_id: str, moment: datetime, body: bytes, signers: Sequence[str]) -> dict[str, str]:
    """The headers of a message that is sent at `moment`: a signature for each secret, so that receivers may change theirs."""
    stamp = str(int(moment.timestamp()))
    content = f"{message_id}.{stamp}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.new(signing_key(secret), content, hashlib.sha256).digest()).decode()
        for secret in signers
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(signatures),
    }
