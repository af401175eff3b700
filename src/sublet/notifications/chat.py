"""Events in the forms that chat services take at their incoming webhooks.

Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
Teams: https://learn.microsoft.com/en-us/power-automate/overview-adaptive-cards, in the form that its webhook workflow takes
"""

from __future__ import annotations

from typing import Any

from sublet.notifications.channels.base import Message
from sublet.notifications.wording import facts, headline


def slack(message: Message) -> dict[str, Any]:
    """`text`, with the three characters escaped that Slack reads as its own."""
    event = message.events[0]
    lines = [f"{name}: {value}" for name, value in facts(event, message.timezone)]
    return {"text": "\n".join([f"*{_slack(headline(event))}*", *(_slack(line) for line in lines)])}


def teams(message: Message) -> dict[str, Any]:
    """One adaptive card. Its texts are plain: `TextRun`s are not read as Markdown, and facts are escaped."""
    event = message.events[0]
    title = {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": headline(event), "weight": "bolder"}]}
    listed = [{"title": name, "value": _markdown(value)} for name, value in facts(event, message.timezone)]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, {"type": "FactSet", "facts": listed}],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _markdown(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\[]()*_`!" else sign for sign in text)
