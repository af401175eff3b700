"""A signed POST to a URL that the subscriber names."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, ClassVar

from sublet.notifications import chat
from sublet.notifications.channels.base import Message, NotDeliveredError, Receipt
from sublet.notifications.destinations import Destination, DestinationRefusedError, Destinations
from sublet.notifications.model import EXCERPT_CHARS_MAX, RETRY_AFTER_S_MAX
from sublet.notifications.signing import signed_headers
from sublet.values.errors import InvalidInputError

READ_BYTES_MAX = 4 * 1024
GONE = 410

Shape = Callable[[Message], dict[str, Any]]
SHAPES: dict[str, Shape] = {
    "standard": lambda message: message.events[0].as_dict(),
    "slack": chat.slack,
    "teams": chat.teams,
}


class WebhookChannel:
    """Posts one event. It connects to the address that was checked and to no other, follows no redirect, and reads little."""

    name: ClassVar[str] = "webhook"
    formats: ClassVar[tuple[str, ...]] = tuple(SHAPES)
    signed: ClassVar[bool] = True
    operator_only: ClassVar[bool] = False
    confirmed: ClassVar[bool] = False
    events_max = 1
    gather_s = 0.0

    def __init__(
        self,
        public: Destinations,
        internal: Destinations,
        timeout_s: float = 10.0,
        ca_file: Path | None = None,
        user_agent: str = "sublet",
    ) -> None:
        """`internal` judges the destinations of internal subscriptions, `public` those of all others."""
        self._public = public
        self._internal = internal
        self._timeout_s = timeout_s
        self._ca_file = ca_file
        self._user_agent = user_agent
        self._context: ssl.SSLContext | None = None

    def checked_address(self, address: str, *, internal: bool) -> str:
        self._judge(internal).parse(address)
        return address

    def receiver(self, address: str) -> str:
        try:
            return Destinations(["0.0.0.0/0", "::/0"]).parse(address).host.lower()
        except InvalidInputError:
            return address

    def send(self, message: Message) -> Receipt:
        try:
            destination = self._judge(message.internal).resolve(message.address)
        except DestinationRefusedError as error:
            raise NotDeliveredError(error.message) from error
        except OSError as error:
            raise NotDeliveredError(f"the host name can't be resolved ({error.strerror or error})") from error
        body = json.dumps(SHAPES[message.format](message), separators=(",", ":"), ensure_ascii=False).encode()
        event = message.events[0]
        headers = {
            "content-type": "application/json",
            "user-agent": self._user_agent,
            "accept": "*/*",
            "connection": "close",
            **signed_headers(event.id, message.at, body, message.signers),
        }
        status, retry_after, excerpt = self._post(destination, body, headers)
        receipt = Receipt(status, excerpt)
        if 200 <= status < 300:
            return receipt
        why = "redirects are not followed" if 300 <= status < 400 else "only 2xx counts as taken"
        raise NotDeliveredError(
            f"the receiver answered {status}; {why}",
            receipt,
            retry_after_s=_retry_after_s(retry_after, message.at),
            gone=status == GONE,
        )

    def _judge(self, internal: bool) -> Destinations:
        return self._internal if internal else self._public

    def _post(self, destination: Destination, body: bytes, headers: dict[str, str]) -> tuple[int, str, str]:
        """The status, `Retry-After`, and the beginning of the answer. Raises NotDeliveredError."""
        connection = _Pinned(destination, self._timeout_s, self._tls() if destination.https else None)
        # A timeout of a socket starts over with each byte; this one does not.
        late = threading.Event()

        def end() -> None:
            late.set()
            connection.cut()

        timer = threading.Timer(self._timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            connection.request(
                "POST", destination.target, body=body, headers={"host": destination.host_header, **headers}
            )
            answer = connection.getresponse()
            said = answer.read(READ_BYTES_MAX)
            return answer.status, answer.getheader("retry-after") or "", _readable(said)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise NotDeliveredError(f"no answer within {self._timeout_s:g} s") from error
            raise NotDeliveredError(_sentence(error)) from error
        finally:
            timer.cancel()
            connection.close()

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            context = ssl.create_default_context()
            if self._ca_file is not None:
                context.load_verify_locations(self._ca_file)
            self._context = context
        return self._context


class _Pinned(http.client.HTTPConnection):
    """A connection to the address of a destination; its name is what the certificate must be for."""

    def __init__(self, destination: Destination, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(destination.host, destination.port, timeout=timeout_s)
        self._destination = destination
        self._tls = tls
        self._raw: socket.socket | None = None

    def connect(self) -> None:
        self._raw = socket.create_connection((self._destination.address, self._destination.port), self.timeout)
        self.sock = self._raw
        if self._tls is not None:
            # The handshake comes last, so that it can be cut as well.
            secured = self._tls.wrap_socket(
                self._raw, server_hostname=self._destination.host, do_handshake_on_connect=False
            )
            self.sock = self._raw = secured
            secured.do_handshake()

    def cut(self) -> None:
        """End whatever waits on the connection now, from another thread."""
        if self._raw is not None:
            with contextlib.suppress(OSError):
                self._raw.shutdown(socket.SHUT_RDWR)


def _sentence(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the receiver's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}"
    if isinstance(error, OSError):
        return f"the receiver can't be reached: {error.strerror or type(error).__name__}"
    return f"the receiver's answer is not HTTP ({type(error).__name__})"


def _retry_after_s(text: str, now: datetime) -> float | None:
    """Seconds by `Retry-After`, which is a number or a date; None where it says nothing usable."""
    if text.isascii() and text.strip().isdigit():
        return float(min(int(text.strip()[:9]), RETRY_AFTER_S_MAX))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _readable(said: bytes) -> str:
    """The beginning of an answer as one line without control characters."""
    text = said.decode("utf-8", "replace")
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:EXCERPT_CHARS_MAX]
