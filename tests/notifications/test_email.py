"""Mail, against a real SMTP server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.notifications.conftest import NOW, event, message
from tests.notifications.mail import PASSWORD, USER, mail_server
from tests.notifications.receivers import certificate_for

from sublet.notifications.channels.base import Confirmation, NotDeliveredError
from sublet.notifications.channels.email import EmailChannel, Mailbox
from sublet.values.errors import InvalidInputError

TO = "ops@example.com"


def channel(port: int, **fields: object) -> EmailChannel:
    given: dict[str, object] = {"security": "none", "timeout_s": 5.0} | fields
    return EmailChannel(Mailbox("127.0.0.1", port, "sublet@example.com", **given))  # type: ignore[arg-type]


def test_a_mail_in_plain_text_and_html_with_a_way_to_leave() -> None:
    with mail_server() as (inbox, port):
        sent = message(
            TO, event(1), timezone="Europe/Berlin", leave_url="https://sublet.example.com/unsubscribe/sub_1/x"
        )
        assert channel(port).send(sent).status == 250
    [mail] = inbox.mails
    assert mail["subject"] == "The owner will reclaim a lease at a deadline (lse_1)"
    assert (mail["from"], mail["to"], mail["auto-submitted"]) == ("sublet@example.com", TO, "auto-generated")
    assert mail["list-unsubscribe"] == "<https://sublet.example.com/unsubscribe/sub_1/x>"
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None and rich is not None
    assert "deadline: 2026-01-05 13:05:00 CET" in plain.get_content()
    assert "<td>2026-01-05 13:05:00 CET</td>" in rich.get_content()
    assert "https://sublet.example.com/unsubscribe/sub_1/x" in plain.get_content()
    assert inbox.envelopes[0].rcpt_tos == [TO]


@pytest.mark.parametrize("url", ["https://sublet.example.com/confirm/sub_1/7.x?a&b", ""])
def test_an_address_is_asked_with_no_text_of_the_subscriber(url: str) -> None:
    asked = Confirmation("7.x", url, NOW)
    with mail_server() as (inbox, port):
        channel(port).send(message(TO, event(1, reason="Buy now!"), confirmation=asked, timezone="Europe/Berlin"))
    [mail] = inbox.mails
    assert mail["subject"] == "Confirm your address for Sublet" and mail["list-unsubscribe"] is None
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None and rich is not None
    for text in (plain.get_content(), rich.get_content()):
        assert "sublet notifications confirm sub_1 7.x" in text and "2026-01-05 13:00:00 CET" in text
        assert not any(word in text for word in ("Buy now", "ops", "lse_1"))
    assert (url in plain.get_content()) and (f'href="{url}"'.replace("&", "&amp;") in rich.get_content()) == bool(url)


def test_many_events_are_one_mail() -> None:
    with mail_server() as (inbox, port):
        channel(port).send(message(TO, *(event(number) for number in range(1, 51))))
    [mail] = inbox.mails
    assert mail["subject"].endswith("and 49 more")
    body = mail.get_body(("plain",))
    assert body is not None and all(event(number).id in body.get_content() for number in range(1, 51))


def test_no_text_of_an_event_becomes_a_header_or_markup() -> None:
    hostile = "x\r\nBcc: all@example.com\r\n\r\n<script>alert(1)</script>\n.\r\nQUIT"
    with mail_server() as (inbox, port):
        channel(port).send(message(TO, event(1, lease=hostile, reason=hostile), leave_url=""))
    [mail] = inbox.mails
    assert inbox.envelopes[0].rcpt_tos == [TO]
    assert mail["bcc"] is None and mail["list-unsubscribe"] is None
    rich = mail.get_body(("html",))
    assert rich is not None and "<script>" not in rich.get_content() and "&lt;script&gt;" in rich.get_content()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ops",
        "ops@",
        "@example.com",
        "ops@localhost",
        "ops@example.com\r\nBcc: all@example.com",
        "ops@example.com, all@example.com",
        "Ops <ops@example.com>",
        "ops @example.com",
        "ops@exa mple.com",
        "öps@example.com",
        '"a b"@example.com',
        "ops@[127.0.0.1]",
        "a" * 250 + "@example.com",
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(InvalidInputError):
        channel(25).checked_address(address, internal=True)


def test_without_a_mail_server_nobody_subscribes_and_what_waits_is_kept() -> None:
    silent = EmailChannel(None)
    with pytest.raises(InvalidInputError, match=r"mail\.host"):
        silent.checked_address(TO, internal=True)
    with pytest.raises(NotDeliveredError) as caught:
        silent.send(message(TO))
    assert not caught.value.final


@pytest.mark.parametrize("implicit", [False, True])
def test_tls(tmp_path: Path, implicit: bool) -> None:
    certificate = certificate_for(tmp_path, "127.0.0.1")
    security = "tls" if implicit else "starttls"
    with mail_server(certificate=certificate, implicit=implicit) as (inbox, port):
        channel(port, security=security, ca_file=certificate).send(message(TO))
        assert inbox.secured == [True]
        with pytest.raises(NotDeliveredError, match="TLS"):
            channel(port, security=security).send(message(TO))
        if not implicit:
            with pytest.raises(NotDeliveredError):
                channel(port, security="none").send(message(TO))
    assert len(inbox.mails) == 1


def test_a_server_without_starttls_gets_nothing_in_the_clear() -> None:
    with mail_server() as (inbox, port), pytest.raises(NotDeliveredError):
        channel(port, security="starttls").send(message(TO))
    assert inbox.mails == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_login_with_a_password_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    with mail_server(login=True) as (inbox, port):
        channel(port, user=USER, password=PASSWORD).send(message(TO))
        channel(port, user=USER, password_file=file).send(message(TO))
        assert len(inbox.mails) == 2
        with pytest.raises(NotDeliveredError) as caught:
            channel(port, user=USER, password="wrong").send(message(TO))
    assert "wrong" not in str(caught.value)


def test_a_refused_address_is_final_and_a_busy_server_is_not() -> None:
    with mail_server() as (inbox, port):
        inbox.refuse = "550 no such user"
        with pytest.raises(NotDeliveredError, match="no such user") as caught:
            channel(port).send(message(TO))
        assert caught.value.final and caught.value.receipt.status == 550
        inbox.refuse = "451 later"
        with pytest.raises(NotDeliveredError) as caught:
            channel(port).send(message(TO))
        assert not caught.value.final
    with pytest.raises(NotDeliveredError, match="can't be reached"):
        channel(port).send(message(TO))
