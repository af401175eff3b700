"""Mail goes to nobody who has not said yes: an address is asked once, by a code that only its reader has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.notifications.test_delivering import ACME, BOLT, OPERATOR, SEALING, Stage, Toy

from sublet.notifications import service as module
from sublet.notifications.channels.base import Confirmation
from sublet.notifications.channels.email import EmailChannel, Mailbox
from sublet.notifications.links import CONFIRM_WITHIN, Links
from sublet.notifications.model import ConfirmationCodeError
from sublet.notifications.service import Owner
from sublet.store import Store, outbox
from sublet.values.clock import SimulatedClock
from sublet.values.errors import LimitExceededError, NotFoundError


class Asking(Toy):
    """A channel whose addresses are asked first, and whose messages are gathered as mail is."""

    confirmed: ClassVar[bool] = True


@pytest.fixture
def stage(any_store: Store, clock: SimulatedClock) -> Stage:
    return Stage(any_store, clock, Asking(events_max=50, gather_s=300.0))


def asked(stage: Stage, subscription: str) -> list[Confirmation]:
    """What this subscription's address was asked, the oldest first."""
    own = [item for item in stage.toy.sent if item.subscription_id == subscription]
    return [item.confirmation for item in own if item.confirmation is not None]


def test_nothing_but_the_question_goes_to_an_address_that_has_not_confirmed(stage: Stage) -> None:
    mine, other = stage.subscribe(ACME, "a"), stage.subscribe(BOLT, "b")
    stage.happen("bud_1")
    stage.deliver()
    assert sorted(message.address for message in stage.toy.sent) == ["a", "b"]
    [first], [second] = asked(stage, mine), asked(stage, other)
    for code in ("", "x", first.code[:-1], second.code, f"{int(first.code.partition('.')[0]) + 9}.{first.code[11:]}"):
        with pytest.raises(ConfirmationCodeError):
            stage.notifications.confirm(mine, code, ACME)
    with pytest.raises(NotFoundError):
        stage.notifications.confirm(other, second.code, ACME)
    stage.notifications.change(ACME, mine, enabled=False)
    stage.notifications.change(ACME, mine, enabled=True)
    stage.happen("bud_2")
    stage.deliver()
    assert len(stage.toy.sent) == 2, "enabling is not confirming"
    assert stage.notifications.confirm(mine, first.code, ACME).as_dict()["confirmed"]
    assert stage.notifications.confirm(mine, first.code).confirmed_at == stage.clock.now(), "once is enough"
    stage.happen("bud_3")
    stage.deliver()
    assert [event.subject for event in stage.toy.sent[-1].events] == ["bud_3"], "what came before is not told"


def test_a_code_expires_and_another_one_is_asked_for_so_often_a_day(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRMATIONS_PER_DAY", 2)
    mine = stage.subscribe(ACME)
    stage.deliver()
    [old] = asked(stage, mine)
    stage.clock.advance(CONFIRM_WITHIN.total_seconds())
    with pytest.raises(ConfirmationCodeError):
        stage.notifications.confirm(mine, old.code, ACME)
    stage.notifications.test(ACME, mine, "key_1")
    stage.subscribe(ACME, "another")
    with pytest.raises(LimitExceededError):
        stage.notifications.test(ACME, mine, "key_1")
    with pytest.raises(LimitExceededError):
        stage.subscribe(ACME, "third")
    assert stage.subscribe(BOLT) and stage.subscribe(OPERATOR), "others have their own"
    stage.deliver()
    again = asked(stage, mine)[1]
    stage.clock.advance(timedelta(days=1).total_seconds())
    stage.notifications.confirm(mine, again.code, ACME)
    stage.notifications.test(ACME, mine, "key_1")
    stage.deliver()
    assert stage.toy.sent[-1].confirmation is None and stage.toy.sent[-1].events[0].kind == "subscription.test"


def test_a_question_that_was_answered_is_not_asked_again(stage: Stage) -> None:
    mine = stage.subscribe(ACME)
    stage.notifications.test(ACME, mine, "key_1")
    outbox.number(stage.store)
    links = Links(SEALING)
    found = stage.notifications.subscription(ACME, mine)
    stage.notifications.confirm(mine, links.confirmation(found, stage.clock.now()).code, ACME)
    stage.deliver()
    assert stage.toy.sent == []


def test_over_http_by_the_code_or_the_link(service: Service) -> None:
    told = service.system.notifications
    told.links = Links(service.system.sealing, "https://sublet.example.com")
    service.system.channels["email"] = EmailChannel(Mailbox("127.0.0.1", 9, "sublet@example.com"))
    wanted = {"channel": "email", "address": "ops@example.com", "kinds": ["*"]}

    def subscribed() -> tuple[str, Confirmation]:
        made = service.ask("acme", "POST", "/v1/subscriptions", wanted).json()
        assert not made["confirmed"] and "code" not in made
        found = told.subscription(Owner(service.organizations["acme"]), made["id"])
        return f"/v1/subscriptions/{made['id']}", told.links.confirmation(found, service.world.clock.now())

    (first, by_code), (second, by_link) = subscribed(), subscribed()
    refused = service.ask("acme", "POST", f"{first}/confirm", {"code": by_link.code})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "confirmation_code")
    assert service.ask("bolt", "POST", f"{first}/confirm", {"code": by_code.code}).status_code == 404
    assert service.ask("acme", "POST", f"{first}/confirm", {"code": by_code.code}).json()["confirmed"]
    page = by_link.url.removeprefix("https://sublet.example.com")
    looked = service.client.get(page)
    assert looked.status_code == 200 and "default-src 'none'" in looked.headers["content-security-policy"]
    assert not service.ask("acme", "GET", second).json()["confirmed"], "a look changes nothing"
    assert service.client.post(page.replace(second.rpartition("/")[2], "sub_x")).status_code == 400
    assert service.client.post(page).status_code == 200
    assert service.ask("acme", "GET", second).json()["confirmed"]
    events: dict[str, Any] = service.ask("acme", "GET", "/v1/events").json()
    assert by_code.code not in str(events) and by_link.code not in str(events)
