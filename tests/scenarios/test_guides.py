"""The guides of the manual: their commands, copied as they stand there, against `sublet up`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.leases.machine import client_key
from tests.scenarios.up import started

from sublet.story.demo import write_settings
from sublet.story.stage import Stage, UpProcess

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def quiet(folder: Path) -> Iterator[UpProcess]:
    """`sublet up` without a model, on a pool whose demand nobody but the test tells: this machine may be busy."""
    config = write_settings(folder)
    feed = '[pools.prometheus]\nurl = "http://127.0.0.1:9"\nin_use = "up"\n'
    config.write_text(f'{config.read_text()}{feed}\n[models]\ndefault = ""\n')
    with started(config) as up:
        yield up


@pytest.fixture
def stage(quiet: UpProcess) -> Iterator[Stage]:
    made = Stage(quiet, print)
    yield made
    made.close()


def commands(page: str, mark: str) -> str:
    """The block of commands after `<!-- mark -->` on a page."""
    return (DOCS / page).read_text().split(f"<!-- {mark} -->")[1].split("```")[1].removeprefix("sh\n")


def test_the_commands_of_bring_your_image(stage: Stage, quiet: UpProcess, tmp_path: Path) -> None:
    pool = stage.wait("a pool", lambda: stage.operator.get("/v1/pools")["pools"], 20)[0]
    stage.push_demand(pool)
    acme = stage.operator.post("/v1/organizations", {"name": "acme", "currency": pool["currency"]})
    key = stage.operator.post(f"/v1/organizations/{acme['id']}/keys", {"name": "guide"})["secret"]
    (tmp_path / ".ssh").mkdir()
    pair = client_key(tmp_path)
    pair.rename(tmp_path / ".ssh" / "id_ed25519")
    pair.with_name("client_key.pub").rename(tmp_path / ".ssh" / "id_ed25519.pub")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "SUBLET_URL": quiet.address("control"),
        "SUBLET_KEY": key,
    }
    done = subprocess.run(
        ["bash", "-euc", commands("images.md", "image")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("my own root")
    lease = stage.operator.get("/v1/leases")["leases"][0]
    assert lease["image"]["name"] == "mine" and lease["image"]["digest"] in lease["guarantees"]["image"]["how"]
