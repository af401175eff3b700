"""Leases on images, for real: a root file system that a customer brought, reached through SSH."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.leases.images.archives import busybox, layout
from tests.leases.machine import Tenant, client_key, local_settings

from sublet.leases.backends.base import RunState, StartOrder
from sublet.leases.backends.image import ImageOrder
from sublet.leases.backends.job import JobOrder
from sublet.leases.backends.local import disk
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.images.files import ImageFiles
from sublet.leases.images.importing import Import
from sublet.leases.images.model import ImageLimits
from sublet.values.ids import new_id

pytestmark = pytest.mark.real
WAIT_S = 60


def imported(directory: Path, content: bytes, backend: LocalBackend) -> ImageOrder:
    """An image on this machine, as the control plane makes it."""
    import hashlib

    sha256 = hashlib.sha256(content).hexdigest()
    found = ImageFiles.of(directory, new_id("img"))
    found.append(0, content)
    running = Import(found.root.name, found, sha256, ImageLimits(), unpack=not backend.capabilities.as_root)
    deadline = time.monotonic() + WAIT_S
    while not running.poll():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert running.result is not None, running.refusal
    found.keep_result()
    told = running.result
    return ImageOrder(found.root.name, "mine", f"sha256:{sha256}", told["shell"], told["environment"])


def order(base: Path, image: ImageOrder) -> StartOrder:
    key = client_key(base).with_name("client_key.pub").read_text()
    end = datetime.now(UTC) + timedelta(seconds=300)
    return StartOrder(new_id("lse"), "org_a", ("cpu:0",), (key,), end, image=image)


def started(backend: LocalBackend, base: Path, wanted: StartOrder) -> Tenant:
    backend.start(wanted)
    found = Tenant(backend, wanted.lease_id, base / "client_key", base)
    found.wait(RunState.RUNNING)
    return found


@pytest.mark.parametrize("door", ["openssh", "asyncssh"])
def test_a_customer_logs_in_to_an_image_that_has_neither_python_nor_sshd(tmp_path: Path, door: str) -> None:
    base, images = tmp_path / "leases", tmp_path / "images"
    base.mkdir()
    backend = LocalBackend(local_settings(base, images=images, force_asyncssh=door == "asyncssh"))
    image = imported(images, layout([busybox()], ["MODEL=llama", "PATH=/bin:/opt/tools"]), backend)
    volume = new_id("vol")
    backend.make_volume(volume, 16)
    lease = started(backend, base, replace(order(base, image), volumes=((volume, "data"),)))
    try:
        assert lease.run("cat /etc/brought; id -un; echo $MODEL; echo $PATH") == (
            0,
            "by the image\ntenant\nllama\n/bin:/opt/tools",
        )
        told = lease.seen.guarantees["image"]
        assert image.digest in told["how"] and told["level"] == "hard"
        script = "echo kept > /volumes/data/f && echo here > ~/f && cat /volumes/data/f ~/f"
        assert lease.run(script) == (0, "kept\nhere")
        for place in ("", "bin", "etc", "volumes", "opt/sublet", "opt/sublet/host", "opt"):
            assert lease.run(f"touch /{place}/x 2>/dev/null; test -e /{place}/x") == (1, ""), place
        assert lease.run("test -u /bin/busybox || echo no setuid")[1] == "no setuid"
        assert lease.run("ls /usr/bin/python3 /root /work 2>/dev/null; echo nothing else")[1] == "nothing else"
        if backend.capabilities.as_root:
            assert str(tmp_path) not in lease.run("cat /proc/self/mountinfo")[1]
    finally:
        assert lease.stop().clean
    assert disk.loop_devices(ImageFiles.of(images, image.id).image) == []


def test_two_leases_share_an_image_and_a_job_runs_on_it(tmp_path: Path) -> None:
    base, images = tmp_path / "leases", tmp_path / "images"
    base.mkdir()
    backend = LocalBackend(local_settings(base, images=images))
    image = imported(images, busybox(), backend)
    first = order(base, image)
    one = started(backend, base, first)
    job = JobOrder(("/bin/sh", "-c", "cat /etc/brought; exit 3"), {}, 0, 1)
    wanted = replace(first, lease_id=new_id("lse"), devices=("cpu:1",), job=job)
    backend.start(wanted)
    deadline = time.monotonic() + WAIT_S
    while not backend.observe(wanted.lease_id).exits:
        assert time.monotonic() < deadline, backend.observe(wanted.lease_id)
        time.sleep(0.05)
    assert backend.observe(wanted.lease_id).exits[0].code == 3
    assert "by the image" in backend.job_log(wanted.lease_id, 0).text
    assert backend.stop(wanted.lease_id, "test", 0.0).clean
    assert one.run("cat /etc/brought") == (0, "by the image")
    assert one.stop().clean


def test_a_lease_on_an_image_that_is_not_here_does_not_start(tmp_path: Path) -> None:
    from sublet.leases.backends.base import BackendFailedError

    backend = LocalBackend(local_settings(tmp_path, images=tmp_path / "images"))
    wanted = order(tmp_path, ImageOrder(new_id("img"), "mine", "sha256:x"))
    with pytest.raises(BackendFailedError, match="image mine is not on this machine"):
        backend.start(wanted)
    assert not (tmp_path / wanted.lease_id / "contents").exists()
