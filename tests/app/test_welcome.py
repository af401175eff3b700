"""What `sublet up` prints for the second terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

from sublet.launch.running import data_dir_export


def test_a_second_terminal_is_told_which_data_directory_to_use() -> None:
    assert data_dir_export(Path("~/.local/share/sublet").expanduser()) == ""
    line = data_dir_export(Path("/srv/my sublet"))
    assert shlex.split(line) == ["export", "SUBLET_DATA_DIR=/srv/my sublet"]
