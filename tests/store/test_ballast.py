"""The reserve beside the books: given up when the disk is nearly full, and made again when there is room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sublet.launch import supervisor
from sublet.store.ballast import GIVE_UP_BELOW_BYTES, MAKE_AGAIN_ABOVE_BYTES, MIB, SIZE_BYTES, Ballast
from sublet.values.errors import StorageFullError


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the disk look as if so many bytes were free."""

    def looks(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=1 << 40, used=0, free=free))

    return looks


def test_it_is_allocated_given_up_and_made_again(tmp_path: Path, leave: Callable[[int], None]) -> None:
    ballast = Ballast(tmp_path)
    leave(MAKE_AGAIN_ABOVE_BYTES)
    ballast.tend()
    assert ballast.held_bytes >= SIZE_BYTES
    leave(GIVE_UP_BELOW_BYTES)
    ballast.tend()
    assert ballast.held_bytes >= SIZE_BYTES
    leave(GIVE_UP_BELOW_BYTES - 1)
    with pytest.raises(StorageFullError, match=r"31 MiB free.* 64 MiB has been released"):
        ballast.tend()
    assert not ballast.path.exists()
    # What giving it up freed is no reason to take it again.
    leave(GIVE_UP_BELOW_BYTES + SIZE_BYTES)
    with pytest.raises(StorageFullError):
        ballast.tend()
    leave(MAKE_AGAIN_ABOVE_BYTES)
    ballast.tend()
    assert ballast.held_bytes >= SIZE_BYTES


def test_the_reserve_counts_as_free_at_a_start(tmp_path: Path, leave: Callable[[int], None]) -> None:
    leave(MIB)
    with pytest.raises(StorageFullError):
        supervisor.check_disk(tmp_path)
    Ballast(tmp_path)._make()
    supervisor.check_disk(tmp_path)
