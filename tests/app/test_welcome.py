"""What `sublet up` prints for the second terminal."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port

from sublet.config.settings import Settings
from sublet.fleet.nodes import ControlPlaneRunningError, take_control
from sublet.launch.running import Running, data_dir_export


def test_a_second_terminal_is_told_which_data_directory_to_use() -> None:
    assert data_dir_export(Path("~/.local/share/sublet").expanduser()) == ""
    line = data_dir_export(Path("/srv/my sublet"))
    assert shlex.split(line) == ["export", "SUBLET_DATA_DIR=/srv/my sublet"]


def test_a_second_system_on_one_sqlite_database_says_so_before_anything_serves(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/one/sublet.db"
    told: dict[str, Any] = {"data_dir": str(tmp_path / "two"), "database": {"url": url}}
    for section in ("control", "gateway"):
        told[section] = {"port": free_port()}
    system = Running(Settings.model_validate(told))
    with take_control(url, tmp_path / "one"):
        try:
            with pytest.raises(ControlPlaneRunningError, match="another control plane serves"):
                system.start()
        finally:
            system.end()
    assert system.supervisor.children == {} or all(
        child.process is None for child in system.supervisor.children.values()
    )


@pytest.mark.parametrize(
    ("stated", "shown"), [("", "http://localhost:8400"), ("https://sublet.test", "https://sublet.test")]
)
def test_the_console_is_opened_by_a_name_since_passkeys_need_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str, shown: str
) -> None:
    system = Running(Settings.model_validate({"data_dir": str(tmp_path), "control": {"public_url": stated}}))
    monkeypatch.setattr(system.supervisor, "address", lambda name: "http://127.0.0.1:8400")
    assert system.console_url == shown and f"open {shown} and sign in" in system.welcome()
    assert "export SUBLET_URL=http://127.0.0.1:8400" in system.welcome()
