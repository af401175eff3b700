"""Links and codes in mails: each proves that its reader got a mail from Sublet at that address."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta

from sublet.notifications.channels.base import Confirmation
from sublet.notifications.model import Subscription
from sublet.store.sealing import Sealing
from sublet.values.clock import EPOCH

TOKEN_BYTES = 18
CONFIRM_WITHIN = timedelta(days=3)
"""How long a code that confirms an address is valid."""


class Links:
    """Made from the sealing key and the address, so that nothing is stored, and a reader of events or of the API can't make one."""

    def __init__(self, sealing: Sealing, public_url: str = "") -> None:
        """Without a `public_url` there are no links, only codes."""
        self._sealing = sealing
        self._public_url = public_url

    def leave_url(self, subscription: Subscription) -> str:
        """Where a reader of mail unsubscribes without a key; empty where the settings name no public URL."""
        if not self._public_url:
            return ""
        return f"{self._public_url}/unsubscribe/{subscription.id}/{self._tokens('unsubscribe', subscription)[0]}"

    def leaves(self, subscription: Subscription, token: str) -> bool:
        """Whether the token is of a link to unsubscribe from this subscription."""
        return _among(token, self._tokens("unsubscribe", subscription))

    def confirmation(self, subscription: Subscription, now: datetime) -> Confirmation:
        """What confirms the subscription's address, valid for CONFIRM_WITHIN."""
        until = now + CONFIRM_WITHIN
        expires = str((until - EPOCH) // timedelta(seconds=1))
        code = f"{expires}.{self._tokens('confirm', subscription, expires)[0]}"
        url = f"{self._public_url}/confirm/{subscription.id}/{code}" if self._public_url else ""
        return Confirmation(code, url, until)

    def confirms(self, subscription: Subscription, code: str, now: datetime) -> bool:
        """Whether the code came in a mail to the subscription's address, and is not too old."""
        expires, _, token = code.strip().partition(".")
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return False
        if not _among(token, self._tokens("confirm", subscription, expires)):
            return False
        return now < EPOCH + timedelta(seconds=int(expires))

    def _tokens(self, purpose: str, subscription: Subscription, more: str = "") -> list[str]:
        """By each key that is known, the present one first."""
        content = "\n".join([subscription.id, subscription.address, *([more] if more else [])]).encode()
        keys = self._sealing.derived(purpose)
        return [hmac.new(key, content, hashlib.sha256).hexdigest()[: 2 * TOKEN_BYTES] for key in keys]


def _among(token: str, valid: list[str]) -> bool:
    return any(hmac.compare_digest(item.encode(), token.encode()) for item in valid)
