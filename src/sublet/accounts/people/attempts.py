"""Limits on guessing that nobody can turn against somebody else.

What a source (an IPv4 address, an IPv6 /64) may try is limited by its own failures. Failures on one account from many sources slow
down sources that the account's owner never signed in from, and are never a lock: the owner at a known place notices nothing, and
at a new one waits a few seconds.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select

from sublet.accounts.people.model import SignInLimitError
from sublet.store.tables.accounts import sessions
from sublet.store.tables.accounts import sign_in_attempts as attempts
from sublet.values.ids import new_id

SOURCE_FAILURES_MAX = 10
SOURCE_WINDOW = timedelta(minutes=1)
PAIR_FAILURES_FREE = 5
PAIR_WINDOW = timedelta(minutes=15)
PAIR_WAIT_S_MAX = 60
ACCOUNT_FAILURES_FREE = 30
ACCOUNT_WINDOW = timedelta(hours=1)
ACCOUNT_WAIT_S = 5
RESETS_MAX = 3
RESET_WINDOW = timedelta(hours=1)
KNOWN_FOR = timedelta(days=90)
KEPT = timedelta(days=1)
FORGOTTEN_MAX = 1_000

FAILED, RESET = "failed", "reset"


def source_of(address: str) -> str:
    """What counts as one place: an IPv4 address, an IPv6 /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def account_of(name: str) -> str:
    """What an account is counted under, whether it exists or not."""
    return hashlib.sha256(name.strip().lower().encode("utf-8", "replace")).hexdigest()


def refuse_flood(connection: Connection, source: str, account: str, person_id: str | None, now: datetime) -> None:
    """Raises SignInLimitError with the seconds to wait. `account` empty: a key, which belongs to no account."""
    recent, _ = _counted(connection, now - SOURCE_WINDOW, attempts.c.source == source)
    if recent >= SOURCE_FAILURES_MAX:
        raise SignInLimitError(retry_after_s=round(SOURCE_WINDOW.total_seconds()))
    if not account:
        return
    mine = attempts.c.account_sha256 == account
    failed, last = _counted(connection, now - PAIR_WINDOW, mine & (attempts.c.source == source))
    if last is not None and failed >= PAIR_FAILURES_FREE:
        wait = min(PAIR_WAIT_S_MAX, 2 ** (failed - PAIR_FAILURES_FREE + 1))
        _wait_until(last + timedelta(seconds=wait), now)
    failed, last = _counted(connection, now - ACCOUNT_WINDOW, mine)
    known = last is not None and failed >= ACCOUNT_FAILURES_FREE and _is_known(connection, person_id, source, now)
    if last is not None and failed >= ACCOUNT_FAILURES_FREE and not known:
        _wait_until(last + timedelta(seconds=ACCOUNT_WAIT_S), now)


def may_reset(connection: Connection, source: str, account: str, now: datetime) -> bool:
    """Whether another mail goes to that account now, or from that source."""
    since = now - RESET_WINDOW
    asked = (attempts.c.what == RESET) & (attempts.c.at > since)
    here = _count(connection, asked & (attempts.c.account_sha256 == account))
    return here < RESETS_MAX and _count(connection, asked & (attempts.c.source == source)) < 10 * RESETS_MAX


def note(connection: Connection, what: str, source: str, account: str, now: datetime) -> None:
    """One more attempt of that kind."""
    row = {"id": new_id("att"), "what": what, "account_sha256": account, "source": source, "at": now}
    connection.execute(insert(attempts).values(row))


def forget(connection: Connection, now: datetime) -> int:
    """Delete attempts that are too old to count, at most FORGOTTEN_MAX; how many there were."""
    old = select(attempts.c.id).where(attempts.c.at < now - KEPT).limit(FORGOTTEN_MAX)
    return connection.execute(delete(attempts).where(attempts.c.id.in_(old))).rowcount


def _counted(connection: Connection, since: datetime, which: object) -> tuple[int, datetime | None]:
    found = select(func.count(), func.max(attempts.c.at)).where(
        attempts.c.what == FAILED,
        attempts.c.at > since,
        which,  # type: ignore[arg-type]
    )
    count, last = connection.execute(found).one()
    return count, last


def _count(connection: Connection, which: object) -> int:
    found = select(func.count()).select_from(attempts).where(which)  # type: ignore[arg-type]
    return connection.execute(found).scalar_one()


def _is_known(connection: Connection, person_id: str | None, source: str, now: datetime) -> bool:
    if person_id is None:
        return False
    found = select(sessions.c.id).where(
        sessions.c.person_id == person_id, sessions.c.address == source, sessions.c.created_at > now - KNOWN_FOR
    )
    return connection.execute(found.limit(1)).first() is not None


def _wait_until(moment: datetime, now: datetime) -> None:
    left = math.ceil((moment - now).total_seconds())
    if left > 0:
        raise SignInLimitError(
            f"too many failed attempts to sign in to this account; try again in {left} seconds", retry_after_s=left
        )
