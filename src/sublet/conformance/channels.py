"""What every alert channel must do. The stage has a receiver that can be read and silenced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sublet.conformance.check import Checks, expect, refuses
from sublet.notifications.channels.base import Channel, Message, NotDeliveredError
from sublet.notifications.signing import new_secret
from sublet.store.outbox import Event
from sublet.values.errors import InvalidInputError

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOSTILE = 'a\r\nBcc: all@example.com\r\n\r\n<b>"x"</b>\x1b[31m\u202e 名 {}\n.\r\nQUIT'


@dataclass(frozen=True, slots=True)
class ChannelStage:
    """`address` is a receiver that the channel can reach. `received` is the text of each message that came, decoded; `silence` makes
    the receiver take nothing any more."""

    channel: Channel
    address: str
    received: Callable[[], list[str]]
    silence: Callable[[], object]

    def message(self, *events: Event) -> Message:
        """A message to the receiver."""
        signers = (new_secret(),) if self.channel.signed else ()
        form = self.channel.formats[0]
        return Message("sub_1", "ops", self.address, form, True, events or (event(1),), NOW, signers)


def event(number: int, **payload: Any) -> Event:
    """An event with an id of its own."""
    data = {"lease": "lse_1", "deadline": "2026-01-05T12:05:00Z", **payload}
    return Event(number, f"oev_{number:024d}", "lease.notice_given", "org_1", "lse_1", NOW, 1, data)


_check: Checks[ChannelStage] = Checks()


@_check
def a_good_address_is_kept_and_bad_ones_are_refused(stage: ChannelStage) -> None:
    """`checked_address` returns a good address unchanged, and raises InvalidInputError for what can be no address."""
    kept = stage.channel.checked_address(stage.address, internal=True)
    expect(kept == stage.address, f"{stage.address!r} became {kept!r}")
    for bad in ("", " ", "a\r\nb", "x\x00", "../../etc/passwd", "a b"):
        refuses(
            InvalidInputError,
            lambda bad=bad: stage.channel.checked_address(bad, internal=True),  # type: ignore[misc]
            f"the address {bad!r} was not refused",
        )


@_check
def an_event_arrives_whole(stage: ChannelStage) -> None:
    """What arrives names the event by its id, so that a repeated one is recognized, and its subject."""
    stage.channel.send(stage.message(event(7)))
    found = stage.received()
    expect(len(found) == 1, f"one message was sent, {len(found)} came")
    for wanted in (event(7).id, "lse_1"):
        expect(wanted in found[0], f"{wanted} is not in what came")


@_check
def as_many_as_it_says_go_into_one_message(stage: ChannelStage) -> None:
    """A message with `events_max` events arrives with all of them."""
    events = [event(number) for number in range(1, stage.channel.events_max + 1)]
    stage.channel.send(stage.message(*events))
    whole = "\n".join(stage.received())
    lost = [item.id for item in events if item.id not in whole]
    expect(not lost, f"{len(lost)} of {len(events)} events did not arrive")


@_check
def no_text_of_an_event_breaks_out(stage: ChannelStage) -> None:
    """Line breaks, markup and control characters in an event stay text: one message comes, and it holds the event."""
    stage.channel.send(stage.message(replace(event(3), payload={"lease": HOSTILE, "reason": HOSTILE})))
    found = stage.received()
    expect(len(found) == 1 and event(3).id in found[0], "hostile text made another message of it")


@_check
def twice_is_the_same(stage: ChannelStage) -> None:
    """Sending a message again after a crash is possible, and carries the same id."""
    stage.channel.send(stage.message(event(4)))
    stage.channel.send(stage.message(event(4)))
    whole = "\n".join(stage.received())
    expect(whole.count(event(4).id) >= 2, "the second one did not come, or carries another id")


@_check
def a_receiver_that_takes_nothing_is_told(stage: ChannelStage) -> None:
    """Where the receiver did not take the message, `send` raises NotDeliveredError or OSError, without a secret in its words."""
    stage.silence()
    message = stage.message()
    try:
        stage.channel.send(message)
    except (NotDeliveredError, OSError) as error:
        expect(not any(secret in str(error) for secret in message.signers), "the error holds the secret")
        return
    expect(False, "send returned although nobody took the message")


@_check
def its_constants_make_sense(stage: ChannelStage) -> None:
    """At least one event and one format, no negative pause, and a receiver for any address."""
    channel = stage.channel
    expect(
        channel.events_max >= 1 and channel.gather_s >= 0 and channel.formats,
        "events_max, gather_s or formats is wrong",
    )
    expect(channel.receiver(stage.address) == channel.receiver(stage.address) != "", "receiver is not stable")


CHECKS = tuple(_check.all)
