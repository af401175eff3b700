"""The loop that numbers events, makes messages of them, and hands the messages to channels."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from sublet.accounts import store as accounts_sql
from sublet.notifications import fanout
from sublet.notifications.delivering import Delivering, prune
from sublet.notifications.service import reseal
from sublet.store import outbox
from sublet.wiring.system import Sublet

LED_AS = "outbox"


class Telling:
    """One control plane does it for all; a message that two send after a change of the leader carries the same id."""

    def __init__(self, system: Sublet) -> None:
        self._system = system
        self._delivering = Delivering(
            system.store,
            system.channels,
            system.sealing,
            disable_after=timedelta(days=system.settings.notifications.disable_after_days),
            links=system.notifications.links,
            timezone=_timezone,
        )
        self._begun = False

    def round(self) -> None:
        """What happened since the last one. Raises what the database raises."""
        store = self._system.store
        if not self._begun:
            fanout.begin(store)
            # What a migration left as it was, or a rotation that was killed.
            reseal(store, self._system.sealing)
            self._begun = True
        while outbox.number(store) == outbox.NUMBERED_MAX:
            pass
        while fanout.fan_out(store) == fanout.EVENTS_MAX:
            pass
        self._delivering.round(lambda: self._system.leadership.leads(LED_AS))

    def settle(self) -> None:
        """Wait for what is under way: for tests, and for simulated time."""
        self._delivering.settle()

    def stop(self) -> None:
        """Begin no more messages, and wait a little for those under way."""
        self._delivering.stop()

    def forget(self) -> None:
        """Delete events and messages that were kept long enough."""
        kept = timedelta(days=self._system.settings.notifications.retention_days)
        now = self._system.clock.now()
        prune(self._system.store, now, kept)
        outbox.prune(self._system.store, now, kept)


def _timezone(connection: Connection, organization_id: str) -> str:
    found = accounts_sql.organization_by(connection, id=organization_id)
    return found.timezone if found is not None else "UTC"
