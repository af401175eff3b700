"""Every shipped channel passes its suite, and the suite catches channels that break a promise each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.notifications.mail import mail_server
from tests.notifications.receivers import receiving

from sublet.config.settings import Settings
from sublet.conformance import Check, NonconformingError
from sublet.conformance.channels import CHECKS, ChannelStage
from sublet.notifications.channels import CHANNELS
from sublet.notifications.channels.base import Channel, Message, Receipt
from sublet.notifications.channels.file import FileChannel


def _webhook(stack: ExitStack, tmp_path: Path) -> ChannelStage:
    receiver = stack.enter_context(receiving())
    settings = Settings.model_validate({"notifications": {"internal_hosts": ["127.0.0.0/8"], "timeout_s": 5}})
    return ChannelStage(
        CHANNELS["webhook"](settings),
        receiver.url,
        lambda: [posted.body.decode() for posted in receiver.posted],
        receiver.close,
    )


def _email(stack: ExitStack, tmp_path: Path) -> ChannelStage:
    inbox, port = stack.enter_context(mail_server())
    mail = {"host": "127.0.0.1", "port": port, "sender": "a@b.example", "security": "none"}

    def received() -> list[str]:
        bodies = [mail.get_body(("plain",)) for mail in inbox.mails]
        return [body.get_content() for body in bodies if body is not None]

    def silence() -> None:
        inbox.refuse = "451 later"

    channel = CHANNELS["email"](Settings.model_validate({"mail": mail}))
    return ChannelStage(channel, "ops@example.com", received, silence)


def _file(stack: ExitStack, tmp_path: Path) -> ChannelStage:
    folder = tmp_path / "notifications"

    def received() -> list[str]:
        lines = (folder / "x.jsonl").read_text().splitlines()
        return ["\n".join(lines)] if len({json.loads(line)["id"] for line in lines}) > 1 else lines

    def silence() -> None:
        folder.write_text("in the way")

    return ChannelStage(FileChannel(tmp_path), "x.jsonl", received, silence)


STAGES: dict[str, Callable[[ExitStack, Path], ChannelStage]] = {"webhook": _webhook, "email": _email, "file": _file}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_every_channel_has_a_stage() -> None:
    assert set(STAGES) == set(CHANNELS)


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("name", STAGES)
def test_shipped_channels_keep_the_promises(
    name: str, check: Check[ChannelStage], stack: ExitStack, tmp_path: Path
) -> None:
    check(STAGES[name](stack, tmp_path))


class Careless(FileChannel):
    """Breaks one promise, by name."""

    def __init__(self, data_dir: Path, broken: str) -> None:
        super().__init__(data_dir)
        self._broken = broken
        self._sent: set[str] = set()
        if broken == "its_constants_make_sense":
            self.events_max = 0

    def checked_address(self, address: str, *, internal: bool) -> str:
        return address if "address" in self._broken else super().checked_address(address, internal=internal)

    def send(self, message: Message) -> Receipt:
        if "takes_nothing" in self._broken:
            return Receipt()
        events: Any = message.events
        if self._broken == "an_event_arrives_whole":
            events = ()
        elif self._broken == "as_many_as_it_says_go_into_one_message":
            events = events[:1]
        elif self._broken == "twice_is_the_same":
            events = [item for item in events if item.id not in self._sent]
        self._sent |= {item.id for item in events}
        if self._broken == "no_text_of_an_event_breaks_out":
            (self._folder).mkdir(exist_ok=True)
            (self._folder / message.address).write_text('{"id":"x"}\n{"id":"y"}\n')
            return Receipt()
        from dataclasses import replace

        return super().send(replace(message, events=tuple(events)))


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_a_broken_channel_is_caught(check: Check[ChannelStage], stack: ExitStack, tmp_path: Path) -> None:
    whole = _file(stack, tmp_path)
    broken: Channel = Careless(tmp_path, check.name)
    with pytest.raises(NonconformingError):
        check(ChannelStage(broken, whole.address, whole.received, whole.silence))
