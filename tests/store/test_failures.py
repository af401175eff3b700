"""A database that can't be used is one sentence that says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.store.notes import note, with_notes

from sublet.store import Store
from sublet.values.errors import InvalidInputError, UnavailableError


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "not a URL"),
        ("nonsense", "not a URL"),
        ("sqlite://", "must contain a file path"),
        ("sqlite:///:memory:", "must contain a file path"),
        ("mysql://host/name", "names mysql; Sublet runs on sqlite and postgresql"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, hint: str) -> None:
    with pytest.raises(InvalidInputError, match=hint):
        Store(url)


def test_a_url_with_a_password_is_not_shown() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Store("mysql://sublet:hunter2@host/name")
    assert "hunter2" not in caught.value.message


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnavailableError, match=r"folder .*/file/below can't be created .*; set data_dir"):
        Store(f"sqlite:///{tmp_path}/file/below/sublet.db")


def test_a_damaged_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sublet.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    store = Store(f"sqlite:///{path}")
    with pytest.raises(UnavailableError, match="damaged; restore it from a backup"):
        store.write(lambda connection: connection.execute(text("SELECT 1")).scalar())
    with pytest.raises(UnavailableError, match="damaged"), store.read() as connection:
        connection.execute(text("SELECT * FROM sqlite_master"))
    store.close()


def test_a_locked_file_is_unavailable_after_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with_notes(store)
    monkeypatch.setattr("sublet.store.engine.BUSY_TIMEOUT_MS", 50)
    other = Store(str(store.url))
    with store.engine.connect() as connection:
        connection.execute(text("SELECT 1"))  # BEGIN IMMEDIATE holds the file
        with pytest.raises(UnavailableError, match=r"locked.*check \[database\] url"):
            other.write(note(1))
    assert other.write(note(1)) == 1
    other.close()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        store = Store(f"postgresql://sublet:hunter2@127.0.0.1:{port}/sublet?connect_timeout=2")
        with pytest.raises(UnavailableError, match=r"can't be reached .*check \[database\] url") as caught:
            store.write(note(1))
        assert "hunter2" not in caught.value.message
        with pytest.raises(UnavailableError), store.read():
            pass
    store.close()
