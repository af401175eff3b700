"""What a channel is: a way in which a message reaches its receiver."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from sublet.store.outbox import Event


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What confirms an address: a code, where there is a public URL the link that does the same, and until when they are valid."""

    code: str
    url: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: one event, or several where the channel gathers them. `address` and `format` are the subscription's;
    `signers` are its secrets, the present one first; `timezone` is the receiver's; `leave_url` is where they unsubscribe;
    with a `confirmation` the message only asks whether the address wants any."""

    subscription_id: str
    subscription_name: str
    address: str
    format: str
    internal: bool
    events: tuple[Event, ...]
    at: datetime
    signers: tuple[str, ...] = ()
    timezone: str = "UTC"
    leave_url: str = ""
    confirmation: Confirmation | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the receiver answered: a status, where the channel has one, and the beginning of the answer."""

    status: int | None = None
    excerpt: str = ""


class NotDeliveredError(Exception):
    """The receiver did not take the message. `retry_after_s` is its own word on when to try again; where it is `gone`, it
    wants no more messages at all; where it is `final`, this message will never be taken."""

    def __init__(
        self,
        message: str,
        receipt: Receipt = Receipt(),
        *,
        retry_after_s: float | None = None,
        gone: bool = False,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.receipt = receipt
        self.retry_after_s = retry_after_s
        self.gone = gone
        self.final = final


class Channel(Protocol):
    """One way. `events_max` events at most go into one message; after a message, a subscription's next events are gathered for
    `gather_s` seconds. `signed` says whether messages carry a signature, and so whether subscriptions have a secret;
    `confirmed`, whether an address must be confirmed before anything else is sent there."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    signed: ClassVar[bool]
    operator_only: ClassVar[bool]
    confirmed: ClassVar[bool]
    events_max: int
    gather_s: float

    def checked_address(self, address: str, *, internal: bool) -> str:
        """`address` as it is kept. Raises InvalidInputError where the channel can't reach such a one."""
        ...

    def receiver(self, address: str) -> str:
        """Who is reached there: messages to one receiver share its limit of what is under way at once."""
        ...

    def send(self, message: Message) -> Receipt:
        """Hand the message over. Returns once the receiver has taken it; raises NotDeliveredError, and OSError."""
        ...
