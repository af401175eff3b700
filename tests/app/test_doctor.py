"""`sublet doctor` names what is missing, what follows and what to do; where all is there it says so."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sublet.config.settings import Settings
from sublet.fleet import discovery
from sublet.fleet.discovery import Found
from sublet.launch import doctor
from sublet.launch.doctor import BAD, GOOD, WARNING, Check
from sublet.leases.backends.local import host
from sublet.models import catalog
from sublet.models.model import ModelFileError


def checks(tmp_path: Path, running: bool = False, **settings: Any) -> dict[str, Check]:
    stated = {"data_dir": tmp_path / "data", "control": {"port": 0}, "gateway": {"port": 0}, **settings}
    return {item.name: item for item in doctor.examine(Settings.model_validate(stated), running)}


def cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    found = Found("cpu", tuple(f"cpu:{core}" for core in range(count)), discovery.CPU_WATTS_PER_CORE, "assumed")
    monkeypatch.setattr(discovery, "discover", lambda: found)


def test_every_check_says_what_follows_where_it_is_not_good(tmp_path: Path) -> None:
    for item in checks(tmp_path).values():
        assert item.found, item.name
        assert item.status == GOOD or (item.follows and item.cure), item.name
    assert not (tmp_path / "data").exists(), "looking changes nothing"


@pytest.mark.parametrize(
    ("count", "words", "follows"),
    [
        (
            2,
            "this-machine: 4 of generation cpu, 5 W each",
            "the 2 cores are the accelerators, in shares, since they are few",
        ),
        (16, "this-machine: 16 of generation cpu, 10 W each", "the 16 cores are the accelerators"),
    ],
)
def test_the_accelerators_are_those_that_the_service_will_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, words: str, follows: str
) -> None:
    cores(monkeypatch, count)
    told = checks(tmp_path)["accelerators"]
    assert told.status == GOOD and told.found.startswith(words)
    assert told.follows.endswith(follows)


def test_stated_pools_are_shown_and_too_many_are_cut(tmp_path: Path) -> None:
    pools = [
        {"name": f"p{number}", "backend": "simulated", "accelerators": 8, "generation": "h100", "watts": 700}
        for number in range(10)
    ]
    told = checks(tmp_path, pools=pools)["accelerators"]
    assert told.found.startswith("p0: 8 of generation h100 (simulated), 700 W each (stated in the settings); p1: ")
    assert told.found.endswith("; and 2 more") and not told.follows


def test_pools_that_this_machine_has_not_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Found("h100", ("nvidia:0", "nvidia:1"), discovery.CPU_WATTS_PER_CORE, "NVML")
    monkeypatch.setattr(discovery, "discover", lambda: gpus)
    told = checks(tmp_path, pools=[{"name": "mine", "accelerators": 8}])["accelerators"]
    assert told.status == BAD and "8" in told.found and told.cure == "mend [[pools]] in sublet.toml"


def test_without_isolation_raw_leases_are_refused_and_the_rest_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = SimpleNamespace(reason="user namespaces are forbidden", cure="sysctl kernel.unprivileged_userns_clone=1")
    monkeypatch.setattr(host, "probe", lambda: refused)
    told = checks(tmp_path)
    assert (told["isolation"].status, told["isolation"].found) == (BAD, "user namespaces are forbidden")
    assert "everything else works" in told["isolation"].follows and "sysctl" in told["isolation"].cure
    assert "ssh door" not in told


def test_a_damaged_model_file_is_told_with_how_to_get_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*rest: object) -> Path:
        raise ModelFileError("smollm2.gguf is damaged: its SHA-256 is wrong")

    monkeypatch.setattr(catalog, "verified_weights", damaged)
    told = checks(tmp_path)["model file"]
    assert told.status == BAD and "is damaged" in told.found
    assert told.cure == f"sublet admin pull {catalog.BUILT_IN.name}"
    assert checks(tmp_path, models={"default": ""})["model file"].found == "no default model is set"


@pytest.mark.parametrize(("free_mib", "status"), [(10, BAD), (1024, WARNING), (100_000, GOOD)])
def test_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, status: str
) -> None:
    usage = SimpleNamespace(total=10**12, used=0, free=free_mib * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert checks(tmp_path)["disk"].status == status


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    told = checks(closed)["disk"]
    assert told.status == BAD and "not writable" in told.found


def test_a_database_that_is_none_is_told_and_one_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    assert "will be created" in checks(tmp_path)["database"].found
    wrong = tmp_path / "notes.txt"
    wrong.write_text("this is no database, but long enough to be read as one\n" * 100)
    told = checks(tmp_path, database={"url": f"sqlite:///{wrong}"})["database"]
    assert told.status == BAD and told.cure == "check [database] url"


def test_the_password_of_a_database_is_not_shown(tmp_path: Path) -> None:
    told = checks(tmp_path, database={"url": "postgresql://sublet:hunter2@127.0.0.1:9/none"})["database"]
    assert told.status == BAD and "127.0.0.1:9/none" in told.found
    assert "hunter2" not in str(told.as_dict())


def test_a_taken_port_is_told_unless_sublet_itself_has_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = checks(tmp_path, control={"port": port})["port of control"]
        assert told.status == BAD and str(port) in told.found and told.cure == "set control.port"
        assert checks(tmp_path, running=True, control={"port": port})["port of control"].status == GOOD
        leases = checks(tmp_path, ssh={"port_min": port, "port_max": port})["ports of leases"]
        assert leases.status == BAD and leases.follows == "no raw lease can start"
