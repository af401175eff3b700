"""Channels by name. A channel is one file here and one line in CHANNELS (docs/add-a-channel.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sublet import __version__
from sublet.config.settings import Settings
from sublet.notifications.channels.base import Channel
from sublet.notifications.channels.email import EmailChannel, Mailbox
from sublet.notifications.channels.file import FileChannel
from sublet.notifications.channels.webhook import WebhookChannel
from sublet.notifications.destinations import Destinations

Maker = Callable[[Settings], Channel]


def _webhook(settings: Settings) -> Channel:
    stated = settings.notifications
    internal = Destinations(stated.internal_hosts)
    public = internal if stated.internal_hosts_for_customers else Destinations()
    return WebhookChannel(public, internal, stated.timeout_s, stated.ca_file, f"sublet/{__version__}")


def _email(settings: Settings) -> Channel:
    mail = settings.mail
    mailbox = Mailbox(
        mail.host,
        mail.port,
        mail.sender,
        mail.security,
        mail.user,
        mail.password.get_secret_value(),
        mail.password_file,
        mail.timeout_s,
        settings.notifications.ca_file,
    )
    return EmailChannel(mailbox if mail.host else None, mail.digest_s)


CHANNELS: Mapping[str, Maker] = {
    "webhook": _webhook,
    "email": _email,
    "file": lambda settings: FileChannel(settings.data_dir),
}


def channels_of(settings: Settings) -> dict[str, Channel]:
    """Every channel, as the settings have it."""
    return {name: make(settings) for name, make in CHANNELS.items()}
