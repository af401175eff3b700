"""Alerts of budgets: raised once per threshold and period, delivered by webhook and e-mail, retried until they arrive."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from sublet.ledger import store as sql
from sublet.ledger.budgets.model import Budget
from sublet.ledger.events import record_hard_limit, record_threshold
from sublet.ledger.model import Party, amount_text
from sublet.store import Store
from sublet.store.tables.ledger import alerts, budget_states, budgets, deliveries
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.ids import derived_id

ATTEMPTS_MAX = 12
RETRY_S = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400)
CLAIM = timedelta(seconds=60)
_SPECIFIED = "whsec_"
TIMEOUT_S = 10
DELIVERIES_MAX = 50

WAITING, DELIVERED, GIVEN_UP = "waiting", "delivered", "given_up"
CHANNELS = ("webhook", "email")


def raise_alerts(connection: Connection, budget: Budget, period_start: datetime, party: Party, now: datetime) -> None:
    """Note every threshold of `budget` that is reached and was not before; messages go into the outbox."""
    state = connection.execute(
        select(budget_states).where(
            budget_states.c.budget_id == budget.id, budget_states.c.period_start == period_start
        )
    ).first()
    spent = state.spent_nano if state else 0
    if budget.hard and spent >= max(budget.limit_nano, 1):
        record_hard_limit(connection, budget, period_start, spent, party, now)
    reached = [percent for percent in budget.thresholds if spent * 100 >= budget.limit_nano * percent]
    if not reached:
        return
    columns = alerts.c
    before = connection.execute(
        select(columns.threshold).where(columns.budget_id == budget.id, columns.period_start == period_start)
    )
    raised = set(before.scalars())
    for percent in sorted(set(reached) - raised):
        connection.execute(
            insert(alerts).values(
                budget_id=budget.id, period_start=period_start, threshold=percent, raised_at=now, spent_nano=spent
            )
        )
        record_threshold(connection, budget, period_start, percent, spent, party, now)
        _queue(connection, budget, period_start, percent, spent, party, now)


def delivery_id(budget_id: str, period_start: datetime, percent: int, channel: str) -> str:
    """The id of the message that tells of a threshold by `channel`."""
    return derived_id("whk", budget_id, format_time(period_start), str(percent), channel)


def _queue(
    connection: Connection,
    budget: Budget,
    period_start: datetime,
    percent: int,
    spent_nano: int,
    party: Party,
    now: datetime,
) -> None:
    body = {
        "type": "budget.threshold_reached",
        "budget": budget.id,
        "organization": party.id,
        "organization_name": party.name,
        "scope": budget.scope,
        "scope_id": budget.scope_id,
        "period_start": format_time(period_start),
        "threshold_percent": percent,
        "limit": amount_text(budget.limit_nano),
        "spent": amount_text(spent_nano),
        "currency": party.currency,
        "raised_at": format_time(now),
    }
    for channel, target in zip(CHANNELS, (budget.webhook_url, budget.email), strict=True):
        if target:
            sql.insert_row(
                connection,
                deliveries,
                id=delivery_id(budget.id, period_start, percent, channel),
                budget_id=budget.id,
                channel=channel,
                target=target,
                body=json.dumps(body, sort_keys=True),
                state=WAITING,
                attempts=0,
                next_at=now,
                last_error="",
            )


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way: to a webhook with its secret, or to an e-mail address."""

    id: str
    channel: str
    target: str
    body: str
    secret: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The SMTP server that takes alerts. `security` is none, starttls or tls."""

    host: str
    port: int
    sender: str
    security: str = "starttls"
    user: str = ""
    password: str = ""


def signature_headers(delivery_id: str, moment: datetime, body: str, secret: str) -> dict[str, str]:
    """The headers of a signed webhook, by the Standard Webhooks specification (HMAC-SHA256 over id.timestamp.body).

    A secret is written as the specification has it, `whsec_` and the key in base64; any other text is the key itself.
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    stamp = str(int(moment.timestamp()))
    digest = hmac.new(signing_key(secret), f"{delivery_id}.{stamp}.{body}".encode(), hashlib.sha256).digest()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        "content-type": "application/json",
    }


def signing_key(secret: str) -> bytes:
    """Raises InvalidInputError for a secret that begins like one of the specification and is not base64."""
    if not secret.startswith(_SPECIFIED):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_SPECIFIED), validate=True)
    except ValueError as error:
        raise InvalidInputError(f"a webhook secret that begins with {_SPECIFIED} goes on in base64") from error


def post_webhook(delivery: Delivery, now: datetime) -> None:
    """Send one webhook; raises where the receiver does not answer with a 2xx."""
    import httpx2

    headers = signature_headers(delivery.id, now, delivery.body, delivery.secret)
    response = httpx2.post(
        delivery.target, content=delivery.body, headers=headers, timeout=TIMEOUT_S, follow_redirects=False
    )
    if not 200 <= response.status_code < 300:
        raise ConnectionError(f"the receiver answered {response.status_code}")


def mail_sender(mailbox: Mailbox) -> Callable[[Delivery, datetime], None]:
    """A sender of e-mails through `mailbox`."""

    def send(delivery: Delivery, now: datetime) -> None:
        content = json.loads(delivery.body)
        message = EmailMessage()
        message["From"], message["To"] = mailbox.sender, delivery.target
        message["Subject"] = f"{content['organization_name']}: {content['threshold_percent']} % of a budget is spent"
        message["Message-ID"] = f"<{delivery.id}@sublet>"
        message.set_content("\n".join(f"{name}: {value}" for name, value in content.items()))
        context = ssl.create_default_context()
        if mailbox.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(mailbox.host, mailbox.port, timeout=TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(mailbox.host, mailbox.port, timeout=TIMEOUT_S)
        with server:
            if mailbox.security == "starttls":
                server.starttls(context=context)
            if mailbox.user:
                server.login(mailbox.user, mailbox.password)
            server.send_message(message)

    return send


class Outbox:
    """Delivers what waits. A delivery is claimed first and sent outside of any transaction: at least once, never lost."""

    def __init__(self, store: Store, senders: dict[str, Callable[[Delivery, datetime], None]]) -> None:
        """`senders` by channel: webhook, email. A channel without a sender keeps its messages waiting."""
        self._store = store
        self._senders = senders

    def deliver_due(self) -> tuple[int, int]:
        """Send what is due; returns how many arrived and how many did not."""
        arrived = failed = 0
        for delivery in self._store.write(self._claim):
            now = self._store.clock.now()
            error = ""
            try:
                self._senders[delivery.channel](delivery, now)
            except Exception as raised:
                error = f"{type(raised).__name__}: {raised}"[:500]
            self._store.write(lambda connection, d=delivery, e=error: self._record(connection, d, e))  # type: ignore[misc]
            arrived, failed = arrived + (not error), failed + bool(error)
        return arrived, failed

    def _claim(self, connection: Connection) -> list[Delivery]:
        now = self._store.clock.now()
        columns = deliveries.c
        statement = (
            select(deliveries, budgets.c.webhook_secret)
            .join(budgets, budgets.c.id == columns.budget_id)
            .where(columns.state == WAITING, columns.next_at <= now, columns.channel.in_(list(self._senders)))
            .order_by(columns.next_at)
            .limit(DELIVERIES_MAX)
            .with_for_update(skip_locked=True, of=deliveries)
        )
        rows = connection.execute(statement).all()
        ids = [row.id for row in rows]
        connection.execute(update(deliveries).where(columns.id.in_(ids)).values(next_at=now + CLAIM))
        return [_delivery(row) for row in rows]

    def _record(self, connection: Connection, delivery: Delivery, error: str) -> None:
        attempts = delivery.attempts + 1
        values: dict[str, Any] = {"attempts": attempts, "last_error": error}
        if not error:
            values["state"] = DELIVERED
        elif attempts >= ATTEMPTS_MAX:
            values["state"] = GIVEN_UP
        else:
            values["next_at"] = self._store.clock.now() + timedelta(seconds=RETRY_S[attempts - 1])
        connection.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(**values))


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(row.id, row.channel, row.target, row.body, row.webhook_secret, row.attempts)
