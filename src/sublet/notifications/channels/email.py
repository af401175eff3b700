"""Mail by SMTP: plain text with the same as simple HTML, several events in one mail."""

from __future__ import annotations

import html
import smtplib
import ssl
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formatdate, make_msgid
from pathlib import Path
from typing import ClassVar

from sublet.notifications.channels.base import Confirmation, Message, NotDeliveredError, Receipt
from sublet.notifications.wording import facts, headline, local_time
from sublet.store.outbox import Event
from sublet.values.errors import InvalidInputError, UnavailableError
from sublet.values.text import refuse_unsafe

ADDRESS_CHARS_MAX = 254
EVENTS_MAX = 50
SUBJECT_CHARS_MAX = 150
DELAYED_S = 60.0


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The SMTP server that takes the mail. `security` is none, starttls or tls; a `password_file` is read for each mail."""

    host: str
    port: int
    sender: str
    security: str = "starttls"
    user: str = ""
    password: str = ""
    password_file: Path | None = None
    timeout_s: float = 20.0
    ca_file: Path | None = None


class EmailChannel:
    """One mail for up to EVENTS_MAX events; then what comes is gathered, so that a flood of events is a few mails."""

    name: ClassVar[str] = "email"
    formats: ClassVar[tuple[str, ...]] = ("standard",)
    signed: ClassVar[bool] = False
    operator_only: ClassVar[bool] = False
    confirmed: ClassVar[bool] = True
    events_max = EVENTS_MAX

    def __init__(self, mailbox: Mailbox | None, gather_s: float = 300.0) -> None:
        """Without a mailbox nobody can subscribe, and what waits is kept."""
        self._mailbox = mailbox
        self.gather_s = gather_s

    def checked_address(self, address: str, *, internal: bool) -> str:
        if self._mailbox is None:
            raise InvalidInputError("e-mail is not configured; the operator must set mail.host")
        refuse_unsafe(address, "address")
        local, _, domain = address.rpartition("@")
        try:
            Address(addr_spec=address)
        except (MessageError, ValueError, IndexError) as error:
            raise InvalidInputError(f"{address[:80]!r} is not an e-mail address") from error
        plain = address.isascii() and not any(sign in address for sign in ' ,;:<>"()[]\\')
        if not local or "." not in domain or not plain or len(address) > ADDRESS_CHARS_MAX:
            raise InvalidInputError(f"{address[:80]!r} is not an e-mail address such as ops@example.com")
        return address

    def receiver(self, address: str) -> str:
        return self._mailbox.host if self._mailbox is not None else address

    def post(self, address: str, subject: str, text: str) -> None:
        """Send one plain letter to one person. Raises UnavailableError where it can't be delivered now."""
        mailbox = self._mailbox
        if mailbox is None:
            raise UnavailableError("mail.host is not set")
        try:
            self._send(mailbox, _letter(mailbox.sender, address, subject, text))
        except NotDeliveredError as error:
            raise UnavailableError(str(error)) from error

    def send(self, message: Message) -> Receipt:
        mailbox = self._mailbox
        if mailbox is None:
            raise NotDeliveredError("mail.host is not set", retry_after_s=DELAYED_S)
        return self._send(mailbox, composed(message, mailbox.sender))

    def _send(self, mailbox: Mailbox, mail: EmailMessage) -> Receipt:
        try:
            with _connected(mailbox) as server:
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            raise NotDeliveredError(
                f"the mail server refused the address: {_said(said)}", Receipt(code), final=500 <= code < 600
            ) from error
        except smtplib.SMTPResponseException as error:
            raise NotDeliveredError(
                f"the mail server refused: {_said(error.smtp_error)}", Receipt(error.smtp_code)
            ) from error
        except smtplib.SMTPException as error:
            raise NotDeliveredError(f"the mail server failed: {_said(str(error))}") from error
        except ssl.SSLError as error:
            raise NotDeliveredError(f"TLS with the mail server failed: {error.reason}") from error
        except OSError as error:
            raise NotDeliveredError(
                f"the mail server can't be reached: {error.strerror or type(error).__name__}"
            ) from error
        return Receipt(250)


def composed(message: Message, sender: str) -> EmailMessage:
    """The mail as it goes out. No field of it can hold a line break: the policy refuses one."""
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"] = sender, message.address
    mail["Subject"] = _subject(message.events) if message.confirmation is None else "Confirm your address for Sublet"
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.events[0].id}.{message.subscription_id}@{_domain(sender)}>"
    mail["Auto-Submitted"] = "auto-generated"
    if message.leave_url:
        mail["List-Unsubscribe"] = f"<{message.leave_url}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    if message.confirmation is not None:
        words = _asked(message.subscription_id, message.confirmation, message.timezone)
        mail.set_content(words)
        mail.add_alternative(_asked_html(words, message.confirmation), subtype="html")
        return mail
    mail.set_content("\n\n".join(_text(event, message.timezone) for event in message.events) + _text_end(message))
    parts = "".join(_html(event, message.timezone) for event in message.events)
    mail.add_alternative(f"<!doctype html><html><body>{parts}{_html_end(message)}</body></html>", subtype="html")
    return mail


def _asked(subscription_id: str, confirmation: Confirmation, timezone: str) -> str:
    """It contains no text from the subscriber, so that nobody can use Sublet to write to strangers."""
    ways = f"To confirm, open {confirmation.url}\n\nor run" if confirmation.url else "To confirm, run"
    return (
        "Somebody asked for notifications from Sublet to be sent to this address.\n\n"
        f"{ways}\n\n  sublet notifications confirm {subscription_id} {confirmation.code}\n\n"
        f"by {local_time(confirmation.until, timezone)}. If you did not expect this, do nothing: no notifications will be sent.\n"
    )


def _asked_html(words: str, confirmation: Confirmation) -> str:
    text = html.escape(words)
    if confirmation.url:
        url = html.escape(confirmation.url)
        text = text.replace(url, f'<a href="{url}">{url}</a>')
    return f'<!doctype html><html><body><p style="white-space: pre-wrap">{text}</p></body></html>'


def _letter(sender: str, address: str, subject: str, text: str) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = sender, address, subject[:SUBJECT_CHARS_MAX]
    mail["Date"] = formatdate()
    mail["Message-ID"] = make_msgid(domain=_domain(sender))
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text)
    return mail


def _subject(events: tuple[Event, ...]) -> str:
    first = headline(events[0])
    more = f" and {len(events) - 1} more" if len(events) > 1 else ""
    return f"{first[: SUBJECT_CHARS_MAX - len(more)]}{more}"


def _text(event: Event, timezone: str) -> str:
    return "\n".join([headline(event), *(f"  {name}: {value}" for name, value in facts(event, timezone))])


def _html(event: Event, timezone: str) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in facts(event, timezone)
    )
    return f"<h3>{html.escape(headline(event))}</h3><table>{rows}</table>"


def _text_end(message: Message) -> str:
    end = f"\n\n-- \nYou get this by the subscription {message.subscription_name or message.subscription_id}."
    return end + (f"\nUnsubscribe: {message.leave_url}\n" if message.leave_url else "\n")


def _html_end(message: Message) -> str:
    name = html.escape(message.subscription_name or message.subscription_id)
    leave = f' <a href="{html.escape(message.leave_url)}">Unsubscribe</a>' if message.leave_url else ""
    return f"<p>You get this by the subscription {name}.{leave}</p>"


def _connected(mailbox: Mailbox) -> smtplib.SMTP:
    """A session that is secured and logged in. Raises SMTPException, OSError."""
    context = ssl.create_default_context(cafile=str(mailbox.ca_file) if mailbox.ca_file else None)
    if mailbox.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(mailbox.host, mailbox.port, timeout=mailbox.timeout_s, context=context)
    else:
        server = smtplib.SMTP(mailbox.host, mailbox.port, timeout=mailbox.timeout_s)
    try:
        if mailbox.security == "starttls":
            server.starttls(context=context)
        if mailbox.user:
            secret = mailbox.password
            if mailbox.password_file is not None:
                secret = mailbox.password_file.read_text().strip()
            server.login(mailbox.user, secret)
    except BaseException:
        server.close()
        raise
    return server


def _domain(sender: str) -> str:
    return sender.rpartition("@")[2].strip("<> ") or "localhost"


def _said(text: bytes | str) -> str:
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join("".join(sign if sign.isprintable() else " " for sign in plain).split())[:200]
