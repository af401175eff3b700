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


def carried_out(stage: Stage, quiet: UpProcess, home: Path, script: str) -> str:
    """What a customer's shell prints for the commands of a guide."""
    pool = stage.wait("a pool", lambda: stage.operator.get("/v1/pools")["pools"], 20)[0]
    stage.push_demand(pool)
    acme = stage.operator.post("/v1/organizations", {"name": "acme", "currency": pool["currency"]})
    key = stage.operator.post(f"/v1/organizations/{acme['id']}/keys", {"name": "guide"})["secret"]
    (home / ".ssh").mkdir()
    pair = client_key(home)
    pair.rename(home / ".ssh" / "id_ed25519")
    pair.with_name("client_key.pub").rename(home / ".ssh" / "id_ed25519.pub")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "SUBLET_URL": quiet.address("control"),
        "SUBLET_KEY": key,
    }
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=home, env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_of_bring_your_image(stage: Stage, quiet: UpProcess, tmp_path: Path) -> None:
    printed = carried_out(stage, quiet, tmp_path, commands("images.md", "image"))
    assert printed.rstrip().endswith("my own root")
    lease = stage.operator.get("/v1/leases")["leases"][0]
    assert lease["image"]["name"] == "mine" and lease["image"]["digest"] in lease["guarantees"]["image"]["how"]


def test_the_commands_of_keep_data_in_a_volume(stage: Stage, quiet: UpProcess, tmp_path: Path) -> None:
    printed = carried_out(stage, quiet, tmp_path, commands("volumes.md", "volume"))
    assert (tmp_path / "result").read_text() == "1+2+3\n" and "1+2+3" in printed.splitlines()
    assert (tmp_path / "everything" / "dataset" / "numbers.csv").read_text() == "1,2,3\n"
    assert (tmp_path / "everything" / "result").read_text() == "1+2+3\n"
    (volume,) = stage.operator.get("/v1/volumes")["volumes"]
    (kept,) = stage.operator.get(f"/v1/volumes/{volume['id']}/snapshots")["snapshots"]
    assert (kept["name"], kept["state"]) == ("first", "ready")
