"""Corrections whose event never comes: put aside with a reason, once, on record, and proven."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, delete, text

from sublet.ledger.exports import export_rows
from sublet.ledger.model import UsageEvent
from sublet.ledger.service import Ledger
from sublet.store.tables.ledger import waiting
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

Used = Callable[..., UsageEvent]


@pytest.fixture
def stuck(priced: Ledger, acme: str, bolt: str, used: Used) -> Ledger:
    """A correction of an event that does not exist, and a cancellation of somebody else's."""
    fix = used(acme, "fix", 10, kind="correction", corrects=("gateway", "nowhere"))
    theirs = used(bolt, "theirs", 0, kind="cancellation", corrects=("gateway", "mine"))
    priced.take_now([used(acme, "mine", 5000), fix, theirs])
    priced.rate()
    assert {entry["code"] for entry in priced.health()["waiting"]} == {"no_original", "mismatch"}
    return priced


def test_what_is_dismissed_waits_no_more_and_stays_on_record(stuck: Ledger, acme: str, bolt: str, used: Used) -> None:
    before = stuck.balances(acme)
    done = stuck.dismiss("gateway", "fix", "typed by hand, of no event")
    assert (done["kind"], done["corrects"]) == ("correction", {"source": "gateway", "id": "nowhere"})
    assert stuck.health()["waiting_events"] == 1
    stuck.dismiss("gateway", "theirs", "names another customer's event")
    assert (stuck.health()["waiting_events"], stuck.health()["waiting"]) == (0, [])
    assert [(entry["id"], entry["reason"]) for entry in stuck.dismissed().items] == [
        ("theirs", "names another customer's event"),
        ("fix", "typed by hand, of no event"),
    ]
    assert [entry["id"] for entry in stuck.dismissed(acme).items] == ["fix"]
    assert stuck.balances(acme) == before and not any(stuck.balances(bolt).values())
    assert stuck.prove().findings == [] and stuck.prove(bolt).ok
    rows = b"".join(export_rows(stuck.store, stuck.books, "journal", acme)).decode()
    assert "dismissed: typed by hand, of no event" in rows
    # Dismissed is for good: neither a repeat nor the event itself brings it back.
    again = used(acme, "fix", 10, kind="correction", corrects=("gateway", "nowhere"))
    assert stuck.take_now([again]).duplicates == 1
    stuck.take_now([used(acme, "nowhere", 1000)])
    stuck.rate()
    assert stuck.balances(acme)["unbilled"] == before["unbilled"] + 150_000
    assert stuck.health()["waiting_events"] == 0 and stuck.prove().findings == []
    # A later correction of the same event is free to come.
    stuck.take_now([used(acme, "fix-2", 0, kind="cancellation", corrects=("gateway", "nowhere"))])
    stuck.rate()
    assert stuck.balances(acme)["unbilled"] == before["unbilled"] and stuck.prove().findings == []


def test_only_what_waits_and_is_no_usage_is_dismissed_and_only_with_a_reason(
    stuck: Ledger, acme: str, used: Used
) -> None:
    with pytest.raises(NotFoundError, match="no event 'none' of 'gateway'"):
        stuck.dismiss("gateway", "none", "typo")
    with pytest.raises(ConflictError, match="add a price for it"):
        stuck.dismiss("gateway", "mine", "typo")
    for reason in ("", "x" * 501, "a\nb"):
        with pytest.raises(InvalidInputError, match="the reason why"):
            stuck.dismiss("gateway", "fix", reason)
    assert stuck.health()["waiting_events"] == 2 and stuck.dismissed().items == []
    # Its event is there after all: then it is rated, not dismissed.
    stuck.take_now([used(acme, "nowhere", 1000)])
    with pytest.raises(ConflictError, match="was already rated or dismissed"):
        stuck.dismiss("gateway", "fix", "typo")
    stuck.dismiss("gateway", "theirs", "typo")
    with pytest.raises(ConflictError, match="was already rated or dismissed"):
        stuck.dismiss("gateway", "theirs", "typo")
    assert len(stuck.dismissed().items) == 1 and stuck.prove().ok


def test_the_proof_names_what_vanished_instead_of_being_dismissed(stuck: Ledger) -> None:
    stuck.dismiss("gateway", "fix", "of no event")
    stuck.store.write(lambda connection: connection.execute(delete(waiting)) and None)
    assert stuck.prove().findings == ["event 'theirs' of 'gateway' was taken and never rated"]


def test_the_proof_names_a_dismissed_event_that_was_changed(stuck: Ledger) -> None:
    stuck.dismiss("gateway", "fix", "of no event")

    def tamper(connection: Connection) -> None:
        off = "DROP TRIGGER ledger_events_no_update"
        connection.execute(text(off if stuck.store.is_sqlite else "ALTER TABLE ledger_events DISABLE TRIGGER USER"))
        connection.execute(text("UPDATE ledger_events SET quantity = 99 WHERE event_id = 'fix'"))

    stuck.store.write(tamper)
    [finding] = stuck.prove().findings
    assert "is not the one that transaction" in finding
