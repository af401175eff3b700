"""Volumes, images and changes of a lease in the console: what it costs is shown first, and nobody reaches another's."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from httpx2 import Response
from tests.app.test_console_acts import EVIL, ORIGIN, Console
from tests.leases.world import KEY, pool_spec

from sublet.console.moments import typed_moment
from sublet.leases.images.service import NewImage
from sublet.leases.quotes.request import QuoteRequest
from sublet.simulation.world import World
from sublet.store.paging import PageRequest


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Console(world)
    world.close()


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def confirm(console: Console, planned: str, path: str, **fields: str) -> Response:
    """Send the form of a page that shows a change before it is carried out."""
    found = re.findall(r'name="(form_token|once)" value="([^"]*)"', planned)
    hidden = {name: html.unescape(value) for name, value in found}
    browser = console.browsers["acme"].client
    return browser.post(path, data={**hidden, "act": "change", **fields}, headers=ORIGIN)


def leased(console: Console, count: int = 2) -> str:
    leases, acme = console.system.leases, console.organization("acme")
    request = QuoteRequest(count, "spot", duration_s=3600, pool=console.world.pool.name)
    lease = leases.accept(acme, leases.quote(acme, request).id, [KEY])
    console.world.pass_time(60, tick_s=5)
    return lease.id


def test_a_customer_makes_keeps_restores_and_deletes_a_volume(console: Console) -> None:
    acme, bolt, volumes = console.browsers["acme"], console.browsers["bolt"], console.system.leases.volumes
    answer = acme.send("/volumes", "create", name="data", size_mib="64", pool=console.world.pool.name)
    assert answer.status_code == 303, text_of(answer.text)
    refused = acme.send("/volumes", "create", name="Not A Name", size_mib="64", pool=console.world.pool.name)
    assert "lower-case letters" in refused.text and 'value="Not A Name"' in refused.text
    console.system.leases.tick()
    volume = volumes.volume("data", console.organization("acme"))
    path = f"/volumes/{volume.id}"
    assert path in acme.get("/volumes") and path not in bolt.get("/volumes")
    assert bolt.client.get(path).status_code == 404
    assert acme.send(path, "snapshot", name=EVIL[:80]).status_code == 303
    assert "snapshotting" in text_of(acme.get(path))
    console.system.leases.tick()
    seen = acme.get(path)
    assert EVIL[:30] not in seen and "by you" in seen
    (snapshot,) = volumes.snapshots.page(volume.id, None, PageRequest()).items
    assert "select the checkbox" in acme.send(path, "restore", snapshot=snapshot.id).text
    assert acme.send(path, "restore", snapshot=snapshot.id, sure="yes").status_code == 303
    console.system.leases.tick()
    assert acme.send(path, "drop", snapshot=snapshot.id).status_code == 303
    console.system.leases.tick()
    assert "There are no snapshots" in acme.get(path)
    assert "select the checkbox" in acme.send(path, "remove").text
    assert acme.send(path, "remove", sure="yes").status_code == 303
    console.system.leases.tick()
    assert "You have no volumes yet" in text_of(acme.get("/volumes"))


def test_the_page_of_images_tells_states_and_removes_what_nobody_uses(console: Console) -> None:
    acme, images = console.browsers["acme"], console.system.leases.images
    mine = images.create(console.organization("acme"), NewImage("mine", 5 << 20, "0" * 64, "search"))
    images.create(console.organization("bolt"), NewImage("theirs", 5, "0" * 64))
    seen = text_of(acme.get("/images"))
    assert "mine" in seen and "uploading" in seen and "5.0" in seen and "search" in seen and "never" in seen
    assert "theirs" not in seen
    assert acme.send("/images", "remove", image=mine.id).status_code == 303
    assert "removing" in text_of(acme.get("/images"))


def test_a_change_of_a_lease_shows_its_price_and_is_carried_out_at_no_higher_one(console: Console) -> None:
    acme, bolt, leases = console.browsers["acme"], console.browsers["bolt"], console.system.leases
    lease = leases.lease(leased(console))
    path = f"/leases/{lease.id}"
    assert "what was delivered is billed to the second" in text_of(acme.get(path))
    later = typed_moment(lease.window.end + timedelta(hours=1))
    planned = acme.send(path, "plan", what="end", end=later)
    assert "goes on until" in text_of(planned.text) and "Costs at most" in planned.text
    assert leases.lease(lease.id).window == lease.window, "nothing has changed yet"
    shown = re.search(r'name="most_nano" value="(\d+)"', planned.text)
    assert shown is not None
    refused = confirm(console, planned.text, path, what="end", end=later, most_nano="1")
    assert "more than the" in text_of(refused.text) and leases.lease(lease.id).window == lease.window
    assert bolt.client.get(path).status_code == 404
    for most in ("²", "9" * 5000, "-1", "1e3"):
        planned = acme.send(path, "plan", what="end", end=later)
        refused = confirm(console, planned.text, path, what="end", end=later, most_nano=most)
        assert "can't be read" in text_of(refused.text) and refused.status_code == 400, most
    planned = acme.send(path, "plan", what="end", end=later)
    assert confirm(console, planned.text, path, what="end", end=later, most_nano=shown[1]).status_code == 303
    assert leases.lease(lease.id).window.end > lease.window.end
    smaller = acme.send(path, "plan", what="accelerators", accelerators="1")
    assert "gives back 1 of 2" in text_of(smaller.text)
    assert confirm(console, smaller.text, path, what="accelerators", accelerators="1").status_code == 303
    moved = acme.send(path, "plan", what="project", project="search")
    assert "counts for project 'search'" in text_of(moved.text)
    assert confirm(console, moved.text, path, what="project", project="search").status_code == 303
    assert acme.send(path, "name", name=EVIL[:60], labels="run=7\nteam = search").status_code == 303
    named = leases.lease(lease.id)
    assert dict(named.labels) == {"run": "7", "team": "search"} and EVIL[:60] not in acme.get(path)
    assert "key=value" in acme.send(path, "name", name="x", labels="nothing").text
    assert "choose what to change" in acme.send(path, "plan", what="owner").text


def test_a_volume_is_offered_on_pools_that_can_be_logged_in_to_first(console: Console) -> None:
    from sublet.reporting import offers

    kinds = {"aaa-simulated": "simulated", "zzz-metal": "local", "none": "nobody"}
    console.system.fleet.sync([pool_spec(name, 1, backend=backend) for name, backend in kinds.items()])
    assert offers.pools_to_ask_for(console.system, "volumes") == ["zzz-metal", "aaa-simulated", "simulated"]
    page = console.browsers["acme"].get("/volumes")
    assert re.findall(r'<option value="([^"]+)"', page)[:2] == ["zzz-metal", "aaa-simulated"]


def test_a_customer_lets_a_request_wait_sees_the_offer_and_the_operator_sees_the_demand(console: Console) -> None:
    acme, bolt, pool = console.browsers["acme"], console.browsers["bolt"], console.world.pool
    wanted = {
        "pool": pool.name,
        "class": "spot",
        "accelerators": str(pool.accelerators),
        "hours": "2",
        "max_price": "0.0000001",
    }
    assert "Let the request wait" in acme.get("/offers")
    assert "select the checkbox" in acme.send("/waitlist", "join", **wanted).text
    for wrong in ({"max_price": "cheap"}, {"max_price": "-1"}, {"hours": "0"}, {"buy": "yes"}, {"pool": "nowhere"}):
        assert acme.send("/waitlist", "join", **(wanted | {"consent": "yes"} | wrong)).status_code >= 400, wrong
    assert acme.send("/waitlist", "join", consent="yes", **wanted).status_code == 303
    assert (
        acme.send("/waitlist", "join", consent="yes", **(wanted | {"accelerators": "1", "max_price": ""})).status_code
        == 303
    )
    console.world.pass_time(60)
    seen = text_of(acme.get("/waitlist"))
    assert "See the offer" in seen and "Leave the list" in seen and pool.name in seen
    assert "Nothing waits" in text_of(bolt.get("/waitlist"))
    (held, cheap) = sorted(console.system.leases.waitlist.page(None, PageRequest()).items, key=lambda item: item.state)
    assert (held.state, cheap.state) == ("offered", "waiting")
    assert f"/quotes/{held.quote_id}" in acme.get("/waitlist") and "Accept" in acme.get(f"/quotes/{held.quote_id}")
    assert bolt.send("/waitlist", "leave", entry=cheap.id).status_code != 303
    assert acme.send("/waitlist", "leave", entry=cheap.id).status_code == 303
    told = text_of(console.browsers["operator"].get("/unmet-demand"))
    assert pool.name in told and "acme" not in told.split("Unmet demand")[-1]
    assert acme.client.get("/unmet-demand").status_code == 403
