"""Sealed secrets: opened with their key and for their owner alone, and sealed again by a rotation that may be killed anywhere."""

from __future__ import annotations

import base64
import secrets
import stat
import threading
from pathlib import Path

import pytest

from sublet.store.sealing import KEY_FILE, Sealing, SealingKeyError, add_key, drop_old_keys, sealing_of
from sublet.values.errors import InvalidInputError


def key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def test_it_opens_for_its_owner_with_its_key_and_not_otherwise() -> None:
    mine, other = Sealing([b"a" * 32]), Sealing([b"b" * 32])
    sealed = mine.seal("whsec_x", "sub_1")
    assert "whsec_x" not in sealed and sealed != mine.seal("whsec_x", "sub_1")
    assert mine.open(sealed, "sub_1") == "whsec_x"
    for sealing, text, owner in (
        (mine, sealed, "sub_2"),
        (other, sealed, "sub_1"),
        (mine, sealed[:-4] + "AAAA", "sub_1"),
        (mine, sealed[:-1] + "?", "sub_1"),
        (mine, "v2:" + sealed[3:], "sub_1"),
        (mine, "whsec_x", "sub_1"),
        (mine, "", "sub_1"),
    ):
        with pytest.raises(SealingKeyError):
            sealing.open(text, owner)
    assert mine.open("plain:old", "sub_1") == "old" and not mine.is_current("plain:old")


def test_the_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    made: list[Sealing] = []
    threads = [threading.Thread(target=lambda: made.append(sealing_of(tmp_path / "d"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    path = tmp_path / "d" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and list(path.parent.iterdir()) == [path]
    sealed = made[0].seal("s", "o")
    assert all(sealing.open(sealed, "o") == "s" for sealing in made) and len(made) == 8


def test_a_rotation_of_the_file(tmp_path: Path) -> None:
    before = sealing_of(tmp_path)
    sealed, link = before.seal("s", "o"), before.derived("unsubscribe")[0]
    add_key(tmp_path)
    between = sealing_of(tmp_path)
    assert between.open(sealed, "o") == "s" and not between.is_current(sealed)
    assert link in between.derived("unsubscribe") and link != between.derived("unsubscribe")[0]
    again = between.seal("s", "o")
    drop_old_keys(tmp_path)
    after = sealing_of(tmp_path)
    assert after.open(again, "o") == "s" and after.is_current(again)
    with pytest.raises(SealingKeyError):
        after.open(sealed, "o")
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_keys_of_the_settings(tmp_path: Path) -> None:
    old, new = key(), key()
    sealed = sealing_of(tmp_path, old).seal("s", "o")
    both = sealing_of(tmp_path, new, old)
    assert both.open(sealed, "o") == "s" and not both.is_current(sealed)
    assert not (tmp_path / KEY_FILE).exists()
    for wrong in ("short", "?" * 44, base64.b64encode(b"x" * 31).decode()):
        with pytest.raises(InvalidInputError, match="openssl rand"):
            sealing_of(tmp_path, wrong)
