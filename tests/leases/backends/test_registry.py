"""Which backend a pool's name stands for, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sublet.config.settings import Settings
from sublet.leases.backends import registry
from sublet.leases.backends.registry import BackendKind, instances, kind_of, on_this_machine
from sublet.leases.backends.simulated_shared import SharedSimulatedBackend
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError
from sublet.wiring.system import Sublet


def settings(tmp_path: Path, **sections: Any) -> Settings:
    return Settings(data_dir=tmp_path, backends=sections)


def test_instances_are_the_plain_kinds_and_the_sections(tmp_path: Path) -> None:
    stated = settings(tmp_path, berlin={"kind": "simulated", "options": {"file": str(tmp_path / "berlin.json")}})
    made = instances(stated, SimulatedClock(), {})
    assert set(made) == {"local", "simulated", "berlin"}
    assert isinstance(made["berlin"], SharedSimulatedBackend)
    assert kind_of(stated, "berlin").simulated and on_this_machine(stated, "local")
    assert not on_this_machine(stated, "berlin") and not on_this_machine(stated, "of another node")


def test_two_pools_on_two_instances_of_one_kind(tmp_path: Path) -> None:
    file = {"kind": "simulated", "options": {"file": str(tmp_path / "b.json")}}
    pools = [{"name": name, "backend": name, "accelerators": 2, "generation": "h100"} for name in ("berlin", "oslo")]
    stated = Settings.model_validate(
        {"data_dir": tmp_path, "models": {"default": ""}, "backends": {"berlin": file, "oslo": {"kind": "simulated"}}}
        | {"pools": pools}
    )
    system = Sublet(stated, SimulatedClock())
    assert {pool.name: pool.backend for pool in system.sync_fleet()} == {"berlin": "berlin", "oslo": "oslo"}
    assert system.backends["berlin"] is not system.backends["oslo"]
    system.close()


@pytest.mark.parametrize(
    ("sections", "named", "said"),
    [
        ({}, "berlin", "pools.backend is 'berlin'"),
        ({"berlin": {"kind": "cloud"}}, "berlin", "backends.berlin.kind is 'cloud'"),
        ({}, "picky", "pools.backend is 'picky'"),
    ],
)
def test_an_unknown_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], named: str, said: str
) -> None:
    picky = BackendKind("picky", registry.KINDS["simulated"].make, needs_section=True)
    monkeypatch.setitem(registry.KINDS, "picky", picky)
    with pytest.raises(InvalidInputError, match=said):
        kind_of(settings(tmp_path, **sections), named)


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    stated = settings(tmp_path, berlin={"kind": "simulated", "options": {"url": "x"}})
    with pytest.raises(InvalidInputError, match=r"backends.berlin.options.url: simulated knows file"):
        instances(stated, SimulatedClock(), {})
