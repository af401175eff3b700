"""Webhooks, against a real web server: what is sent, and how little a receiver can do."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.notifications.conftest import NOW, event, message
from tests.notifications.receivers import Answer, certificate_for, receiving

from sublet.notifications.channels.base import NotDeliveredError
from sublet.notifications.channels.webhook import WebhookChannel
from sublet.notifications.destinations import DestinationRefusedError, Destinations
from sublet.notifications.signing import new_secret, signed_headers

INSIDE = Destinations(["127.0.0.0/8"])


def channel(timeout_s: float = 5.0, **fields: Any) -> WebhookChannel:
    return WebhookChannel(Destinations(), INSIDE, timeout_s, **fields)


def test_a_signed_post() -> None:
    secret = new_secret()
    with receiving(Answer(200, body=b"taken,\x1b[31m thanks\n")) as receiver:
        receipt = channel().send(message(receiver.url, signers=(secret,)))
    [posted] = receiver.posted
    assert (receipt.status, receipt.excerpt) == (200, "taken, [31m thanks")
    assert posted.path == "/hook?a=1" and json.loads(posted.body) == event().as_dict()
    assert posted.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert posted.headers["content-type"] == "application/json"
    for name, value in signed_headers(event().id, NOW, posted.body, [secret]).items():
        assert posted.headers[name] == value


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    with receiving() as other, receiving(Answer(status, {"location": other.url})) as receiver:
        with pytest.raises(NotDeliveredError, match="redirects are not followed"):
            channel().send(message(receiver.url))
        assert other.posted == []


def test_what_the_receiver_says_is_obeyed_and_bounded() -> None:
    long = b"x" * 1_000_000
    answers = [
        (Answer(500, body=long), None, False),
        (Answer(429, {"retry-after": "120"}), 120.0, False),
        (Answer(503, {"retry-after": "Mon, 05 Jan 2026 12:10:00 GMT"}), 600.0, False),
        (Answer(503, {"retry-after": "Mon, 05 Jan 2026 11:00:00 GMT"}), 0.0, False),
        (Answer(503, {"retry-after": "soon"}), None, False),
        (Answer(503, {"retry-after": "9" * 40}), 86_400.0, False),
        (Answer(503, {"retry-after": "\u00b2"}), None, False),
        (Answer(410), None, True),
    ]
    for answer, retry_after_s, gone in answers:
        with receiving(answer) as receiver, pytest.raises(NotDeliveredError) as caught:
            channel().send(message(receiver.url))
        assert (caught.value.retry_after_s, caught.value.gone) == (retry_after_s, gone), answer.headers
        assert caught.value.receipt.status == answer.status
        assert len(caught.value.receipt.excerpt) <= 500


def test_public_subscriptions_reach_nothing_inside() -> None:
    with receiving() as receiver:
        with pytest.raises(NotDeliveredError, match="not a public address"):
            channel().send(message(receiver.url, internal=False))
        with pytest.raises(DestinationRefusedError):
            channel().checked_address(receiver.url, internal=False)
        assert receiver.posted == []


def test_a_name_that_begins_to_point_inside_reaches_nothing() -> None:
    """What was public when it was subscribed is looked up and judged again for each message."""
    answers = [["8.8.8.8"], ["127.0.0.1"]]
    public = Destinations(resolve=lambda host, port: answers.pop(0))
    hooks = WebhookChannel(public, INSIDE)
    url = hooks.checked_address("https://hooks.example.com/x", internal=False)
    assert public.resolve(url).address == "8.8.8.8"
    with pytest.raises(NotDeliveredError, match="not a public address"):
        hooks.send(message(url, internal=False))


@pytest.mark.parametrize("phase", ["headers", "body", "handshake", "silence"])
def test_a_slow_receiver_is_cut_off(phase: str, tmp_path: Path) -> None:
    """A timeout of a socket would start over with every byte."""
    listening = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def drip() -> None:
        taken, _ = listening.accept()
        held.append(taken)
        text = {
            "headers": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500,
            "body": b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n" + b"x" * 9999,
            "handshake": b"\x16\x03\x03\x20\x00" + b"\x02" * 8000,
            "silence": b"",
        }[phase]
        try:
            for byte in text:
                taken.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            pass

    threading.Thread(target=drip, daemon=True).start()
    scheme = "https" if phase == "handshake" else "http"
    begun = time.monotonic()
    with pytest.raises(NotDeliveredError, match=r"no answer within 0\.5 s"):
        channel(0.5).send(message(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/"))
    assert time.monotonic() - begun < 3
    for item in (*held, listening):
        item.close()


def test_nobody_there_and_nothing_that_is_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NotDeliveredError, match="can't be reached"):
        channel().send(message(f"http://127.0.0.1:{port}/"))
    listening = socket.create_server(("127.0.0.1", 0))

    def chat() -> None:
        taken, _ = listening.accept()
        taken.recv(10_000)
        taken.sendall(b"220 mail.example.com ESMTP\r\n")
        taken.close()

    threading.Thread(target=chat, daemon=True).start()
    with pytest.raises(NotDeliveredError, match="not HTTP"):
        channel().send(message(f"http://127.0.0.1:{listening.getsockname()[1]}/"))
    listening.close()

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    lost = WebhookChannel(Destinations(resolve=unknown), INSIDE)
    with pytest.raises(NotDeliveredError, match="can't be resolved"):
        lost.send(message("https://nowhere.example.com/", internal=False))


def test_the_certificate_is_for_the_name_and_the_connection_to_the_address(tmp_path: Path) -> None:
    certificate = certificate_for(tmp_path, "hooks.example.com")
    inside = Destinations(["hooks.example.com", "other.example.com"], lambda host, port: ["127.0.0.1"])
    with receiving(certificate=certificate) as receiver:
        trusting = WebhookChannel(Destinations(), inside, ca_file=certificate)
        assert trusting.send(message(f"https://hooks.example.com:{receiver.port}/x")).status == 204
        assert receiver.posted[0].headers["host"] == f"hooks.example.com:{receiver.port}"
        with pytest.raises(NotDeliveredError, match="certificate is not accepted"):
            trusting.send(message(f"https://other.example.com:{receiver.port}/x"))
        with pytest.raises(NotDeliveredError, match="certificate is not accepted"):
            WebhookChannel(Destinations(), inside).send(message(f"https://hooks.example.com:{receiver.port}/x"))
    assert len(receiver.posted) == 1


def test_the_forms_of_chat_services() -> None:
    hostile = event(1, reason="<!channel> [x](https://evil.example) *b* & </script>")
    with receiving(Answer(200)) as receiver:
        channel().send(message(receiver.url, hostile, format="slack"))
        channel().send(message(receiver.url, hostile, format="teams"))
    slack, teams = (json.loads(posted.body) for posted in receiver.posted)
    assert slack["text"].startswith("*The owner will reclaim a lease at a deadline (lse_1)*\n")
    assert "reason: &lt;!channel&gt;" in slack["text"] and "<" not in slack["text"]
    card = teams["attachments"][0]["content"]
    assert teams["attachments"][0]["contentType"] == "application/vnd.microsoft.card.adaptive"
    shown = {fact["title"]: fact["value"] for fact in card["body"][1]["facts"]}
    assert "\\[x\\]\\(https://evil.example\\)" in shown["reason"]
    assert shown["deadline"] == "2026-01-05 12:05:00 UTC"
