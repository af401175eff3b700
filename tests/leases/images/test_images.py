"""Images of organizations: sent in parts, imported by a process of its own, and never removed from under a lease."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.leases.images.archives import SHELL, layout, special, tar
from tests.leases.test_api import Site
from tests.leases.world import CUSTOMER, KEY, World, pool_spec

from sublet.accounts.service import Accounts
from sublet.api.http import requirement
from sublet.fleet.nodes import Nodes
from sublet.leases.backends.base import StartOrder
from sublet.leases.images.api import router
from sublet.leases.images.model import (
    Image,
    ImageInUseError,
    ImageLimits,
    ImageQuotaError,
    ImageState,
)
from sublet.leases.images.service import Images, ImageSite, NewImage
from sublet.leases.model import Lease
from sublet.leases.projects import OtherProjectError
from sublet.leases.uploads import UploadOffsetError
from sublet.store.tables.outbox import outbox_events
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

ROOT = tar([*SHELL, ("etc/os-release", b"NAME=Mine\n", 0o644)])
needs_tools = pytest.mark.skipif(shutil.which("sqfstar") is None, reason="squashfs-tools is not installed")
pytestmark = needs_tools


@pytest.fixture
def images(world: World, tmp_path: Path) -> Iterator[Images]:
    made = with_limits(world, tmp_path, ImageLimits(mib_max=4, count_max=3, upload_mib_max=2, unpacked_mib_max=16))
    yield made
    made.close()


def with_limits(world: World, tmp_path: Path, limits: ImageLimits) -> Images:
    site = ImageSite(limits, tmp_path / "images", lambda: "nod_here")
    made = Images(world.store, site)
    world.leases.images = made
    ports = replace(world.leases._ports, images=site)
    world.leases._admission._ports = ports
    return made


def announced(name: str, content: bytes) -> NewImage:
    return NewImage(name, len(content), hashlib.sha256(content).hexdigest())


def sent(images: Images, name: str, content: bytes, who: str = CUSTOMER, *, shared: bool = False) -> Image:
    images.create(who, announced(name, content), shared=shared)
    return images.append(name, who, 0, content)


def imported(world: World, images: Images, name: str = "mine", content: bytes = ROOT, who: str = CUSTOMER) -> Image:
    sent(images, name, content, who)
    return settled(world, images, name, who)


def settled(world: World, images: Images, name: str, who: str = CUSTOMER) -> Image:
    deadline = time.monotonic() + 60
    while (found := images.image(name, who)).state is ImageState.IMPORTING:
        assert time.monotonic() < deadline
        images.tend(world.clock.now())
        time.sleep(0.01)
    return found


def leased(world: World, image: str, who: str = CUSTOMER) -> Lease:
    asked = replace(world.request(), image=image)
    return world.leases.accept(who, world.leases.quote(who, asked).id, [KEY])


def test_an_image_is_sent_in_parts_and_goes_on_where_it_broke_off(world: World, images: Images, tmp_path: Path) -> None:
    first = images.create(CUSTOMER, announced("mine", ROOT))
    assert images.append("mine", CUSTOMER, 0, ROOT[:4000]).received_bytes == 4000
    assert images.append("mine", CUSTOMER, 0, ROOT[:4000]).received_bytes == 4000, "the same part again changes nothing"
    with pytest.raises(UploadOffsetError, match="continue at 4000"):
        images.append("mine", CUSTOMER, 5000, ROOT[5000:6000])
    with pytest.raises(OtherProjectError):
        images.append("mine", CUSTOMER, 4000, ROOT[4000:5000], "blue")
    again = Images(world.store, images._site)
    known = again.create(CUSTOMER, announced("mine", ROOT))
    assert (known.id, known.received_bytes) == (first.id, 4000)
    with pytest.raises(InvalidInputError, match="beyond the"):
        again.append("mine", CUSTOMER, 4000, ROOT)
    assert again.append("mine", CUSTOMER, 4000, ROOT[4000:]).state == "importing"
    found = settled(world, again, "mine")
    assert (found.state, found.shell, found.digest) == (
        "ready",
        "/bin/sh",
        f"sha256:{hashlib.sha256(ROOT).hexdigest()}",
    )
    assert found.bytes and found.files == 2 and not (tmp_path / "images" / found.id / "upload").exists()
    with pytest.raises(ConflictError, match="takes no more parts"):
        again.append("mine", CUSTOMER, 0, b"x")


def test_an_import_that_hangs_does_not_keep_the_others_waiting(world: World, images: Images) -> None:
    sent(images, "hangs", ROOT)
    images.tend(world.clock.now())
    assert images._importing is not None
    os.kill(images._importing._process.pid, signal.SIGSTOP)
    sent(images, "waits", ROOT)
    world.clock.advance(2 * 3600 + 1)
    images.tend(world.clock.now())
    assert settled(world, images, "waits").state == "ready"
    found = images.image("hangs", CUSTOMER)
    assert (found.state, found.last_error) == ("failed", "the import took longer than 2 hours")


def test_an_import_that_a_crash_cut_short_begins_anew(world: World, images: Images) -> None:
    sent(images, "mine", ROOT)
    images.tend(world.clock.now())
    images.close()
    after = Images(world.store, images._site)
    assert settled(world, after, "mine").state == "ready"


def test_what_can_not_be_an_image_fails_with_a_reason_and_leaves_nothing(
    world: World, images: Images, tmp_path: Path
) -> None:
    cases = {
        "empty": (tar([("readme", b"x", 0o644)]), "has no /bin/sh"),
        "escape": (tar([*SHELL, ("../x", b"x", 0o644)]), "'..' in its name"),
        "link": (tar([*SHELL, special("h", b"1", "/etc/shadow")]), "no file of the image"),
    }
    for name, (content, told) in cases.items():
        found = imported(world, images, name, content)
        assert found.state == "failed" and told in (found.last_error or ""), found
        assert not (tmp_path / "images" / found.id).exists()
        with pytest.raises(ConflictError, match="is failed"):
            leased(world, name)
    wrong = replace(announced("empty", ROOT), sha256=hashlib.sha256(cases["empty"][0]).hexdigest())
    assert len(ROOT) == len(cases["empty"][0])
    assert images.create(CUSTOMER, wrong).state == "uploading", "one that failed may be sent again"
    world.clock.advance(1)
    images.append("empty", CUSTOMER, 0, ROOT)
    assert "another SHA-256" in (settled(world, images, "empty").last_error or "")
    with world.store.read() as connection:
        kinds = [row.kind for row in connection.execute(select(outbox_events)) if row.kind.startswith("image.")]
    assert kinds == ["image.failed"] * 4


def test_a_lease_names_an_image_that_nobody_can_remove_until_it_is_over(
    world: World, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    orders: list[StartOrder] = []
    start = world.backend.start
    monkeypatch.setattr(world.backend, "start", lambda order: orders.append(order) or start(order))
    image = imported(world, images, content=layout([ROOT], ["A=b"]))
    quote = world.leases.quote(CUSTOMER, replace(world.request(), image="mine"))
    lease = leased(world, image.id)
    assert lease.as_dict()["image"] == {"id": image.id, "name": "mine", "digest": image.digest}
    with pytest.raises(ImageInUseError, match=f"lease {lease.id} runs on image mine"):
        images.remove("mine", CUSTOMER)
    assert images.image("mine", CUSTOMER).state == "ready"
    world.run(3)
    told = orders[0].image
    assert told is not None and (told.id, told.digest, told.environment) == (image.id, image.digest, {"A": "b"})
    world.leases.end(lease.id, CUSTOMER)
    world.run(5)
    assert images.remove("mine", CUSTOMER).state == "removing"
    with pytest.raises(ConflictError, match="was removed in the meantime"):
        world.leases.accept(CUSTOMER, quote.id, [KEY])
    images.tend(world.clock.now())
    assert not (tmp_path / "images" / image.id).exists()
    with pytest.raises(NotFoundError):
        images.image(image.id, CUSTOMER)
    assert imported(world, images).id != image.id, "the name is free again"


def test_limits_on_size_number_and_bytes(world: World, images: Images) -> None:
    for size in (0, -1, (2 << 20) + 1):
        with pytest.raises(InvalidInputError):
            images.create(CUSTOMER, NewImage("big", size, "0" * 64))
    for name in ("", "A", "a/b", "..", "a b", "img_x", "a" * 61, "-a"):
        with pytest.raises(InvalidInputError):
            images.create(CUSTOMER, NewImage(name, 5, "0" * 64))
    for sha256 in ("", "0" * 63, "G" * 64, "0" * 64 + "\n"):
        with pytest.raises(InvalidInputError):
            images.create(CUSTOMER, NewImage("a", 5, sha256))
    for name in ("a", "b"):
        images.create(CUSTOMER, NewImage(name, 2 << 20, "0" * 64))
    with pytest.raises(ImageQuotaError, match="may have 3 of 4 MiB"):
        images.create(CUSTOMER, NewImage("c", 1, "0" * 64))
    with pytest.raises(ConflictError, match="you have another image a"):
        images.create(CUSTOMER, NewImage("a", 5, "0" * 64))
    assert images.create("org_other", NewImage("a", 5, "0" * 64)).state == "uploading"


def test_what_nobody_continues_or_uses_is_removed(world: World, images: Images, tmp_path: Path) -> None:
    images = with_limits(world, tmp_path, replace(images._site.limits, unused_s=30 * 86_400))
    images.create(CUSTOMER, announced("given-up", ROOT))
    used, unused = imported(world, images, "used"), imported(world, images, "unused", tar([*SHELL, ("a", b"b", 0o644)]))
    leased(world, "used")
    world.clock.advance(25 * 3600)
    images.tend(world.clock.now())
    images.tend(world.clock.now())
    with pytest.raises(NotFoundError):
        images.image("given-up", CUSTOMER)
    world.clock.advance(30 * 86_400)
    images.tend(world.clock.now())
    images.tend(world.clock.now())
    with pytest.raises(NotFoundError):
        images.image(unused.id, CUSTOMER)
    assert images.image(used.id, CUSTOMER).state == "ready", "a lease that is not over runs on it"


def test_the_operators_images_are_for_everybody_and_a_customers_for_itself(world: World, images: Images) -> None:
    site = Site(world)
    site.client.app.include_router(router(images, requirement(Accounts(world.store))))  # type: ignore[attr-defined]

    def send(who: str, name: str) -> dict[str, Any]:
        body = {"name": name, "size_bytes": len(ROOT), "sha256": hashlib.sha256(ROOT).hexdigest()}
        code, image = site.call(who, "POST", "/v1/images", body)
        assert code == 201, image
        path = f"/v1/images/{image['id']}/content"
        headers = {"Authorization": f"Bearer {site.keys[who]}", "Content-Type": "application/octet-stream"}
        answer = site.client.put(f"{path}?offset=0", content=ROOT, headers=headers)
        assert answer.status_code == 200, answer.text
        settled(world, images, image["id"], image["organization_id"])
        return dict(image)

    shared, own = send("operator", "base"), send("alice", "mine")
    assert shared["shared"] and not own["shared"]
    for name in ("base", shared["id"]):
        assert site.call("bob", "GET", f"/v1/images/{name}")[0] == 200
        assert site.call("bob", "DELETE", f"/v1/images/{name}")[0] == 404
    for path in (own["id"], "mine"):
        assert site.call("bob", "GET", f"/v1/images/{path}")[0] == 404
        assert site.call("bob", "DELETE", f"/v1/images/{path}")[0] == 404
    asked = {"pool": world.pool.name, "class": "spot", "duration_s": 600, "image": own["id"]}
    assert site.call("bob", "POST", "/v1/quotes", asked)[0] == 404
    assert site.call("bob", "POST", "/v1/quotes", {**asked, "image": "base"})[1]["image"]["id"] == shared["id"]
    assert [item["name"] for item in site.call("bob", "GET", "/v1/images")[1]["images"]] == ["base"]
    assert len(site.call("operator", "GET", "/v1/images")[1]["images"]) == 2
    assert site.call("operator", "DELETE", f"/v1/images/{own['id']}")[0] == 200


def test_a_pool_on_another_node_or_without_images_refuses_with_the_reason(world: World, images: Images) -> None:
    imported(world, images)
    asked = replace(world.request(), image="mine")
    assert world.leases.quote(CUSTOMER, asked).image is not None
    Nodes(world.store).register("nod_there", "there", alone=True)
    world.fleet.sync([pool_spec("metal", world.accelerators)], "nod_there")
    with pytest.raises(InvalidInputError, match="stored on another node than pool"):
        world.leases.quote(CUSTOMER, asked)
    admission = world.leases._admission
    admission._ports = replace(admission._ports, features=lambda backend: frozenset({"network"}))
    with pytest.raises(InvalidInputError, match="does not support images"):
        world.leases.quote(CUSTOMER, asked)
