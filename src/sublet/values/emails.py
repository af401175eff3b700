"""E-mail addresses, as far as they can be judged without sending to them."""

from __future__ import annotations

from email.errors import MessageError
from email.headerregistry import Address

from sublet.values.errors import InvalidInputError
from sublet.values.text import refuse_unsafe

EMAIL_LENGTH_MAX = 254
"""RFC 5321: a path of 256 with its brackets."""


def checked_email(email: str) -> str:
    """An address in lower case. Raises InvalidInputError."""
    email = email.strip()
    refuse_unsafe(email, "email")
    local, _, domain = email.rpartition("@")
    plain = email.isascii() and not any(sign in email for sign in ' ,;:<>"()[]\\')
    try:
        Address(addr_spec=email)
    except (MessageError, ValueError, IndexError) as error:
        raise InvalidInputError(
            f"{email[:80]!r} is not an e-mail address such as you@example.com", field="email"
        ) from error
    if not local or "." not in domain or not plain or len(email) > EMAIL_LENGTH_MAX:
        raise InvalidInputError(f"{email[:80]!r} is not an e-mail address such as you@example.com", field="email")
    return email.lower()
