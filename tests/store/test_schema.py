"""The migrations lead to exactly the tables, from nothing, once, and never backwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.store.schema import SchemaNewerError, config, migrate
from sublet.values.clock import SimulatedClock


@pytest.fixture
def empty(any_store: Store) -> Store:
    metadata.drop_all(any_store.engine)
    return any_store


def test_migrations_lead_to_exactly_the_tables(empty: Store) -> None:
    migrate(empty)
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(empty: Store) -> None:
    migrate(empty)
    before = set(inspect(empty.engine).get_table_names())
    migrate(empty)
    assert set(inspect(empty.engine).get_table_names()) == before >= set(metadata.tables)


def test_a_database_of_a_newer_version_is_left_alone(empty: Store) -> None:
    migrate(empty)
    empty.write(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = 'from_the_future'"))
    )
    with pytest.raises(SchemaNewerError, match="newer version of Sublet; install that version"):
        migrate(empty)


@pytest.fixture
def folder_with_database(tmp_path: Path, clock: SimulatedClock) -> Iterator[Path]:
    folder = tmp_path / "data"
    store = Store(f"sqlite:///{folder}/sublet.db", clock)
    migrate(store)
    yield folder
    store.close()


def test_the_folder_of_the_database_is_its_owners_alone(folder_with_database: Path) -> None:
    assert folder_with_database.stat().st_mode & 0o077 == 0


def _triggers(store: Store) -> set[str]:
    listed = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if store.is_sqlite
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    with store.read() as connection:
        return set(connection.execute(text(listed)).scalars())


def test_migrations_make_the_triggers_too(any_store: Store) -> None:
    wanted = _triggers(any_store)
    assert wanted, "the ledger guards its rows by triggers"
    metadata.drop_all(any_store.engine)
    assert _triggers(any_store) == set()
    migrate(any_store)
    assert _triggers(any_store) == wanted


def test_the_american_spelling_keeps_what_stood_in_the_database(empty: Store) -> None:
    with empty.engine.begin() as connection:
        command.upgrade(config(connection), "ede871560a26")
        for statement in (
            "INSERT INTO organisations (id, name, kind, currency, timezone, created_at, status) "
            "VALUES ('org_1', 'acme', 'customer', 'EUR', 'UTC', 1, 'active')",
            "INSERT INTO lease_transitions (subject_id, number, at, from_state, to_state, actor, reason) "
            "VALUES ('lse_1', 1, 1, 'scheduled', 'cancelled', 'tenant', 'cancelled')",
            """INSERT INTO ledger_books (version, published_at, content, sha256)
            VALUES (1, 1, '{"prices":[{"id":"a","organisation":"org_1"}]}', 'x')""",
        ):
            connection.exec_driver_sql(statement)
    migrate(empty)
    with empty.engine.connect() as connection:
        assert connection.execute(text("SELECT id, name FROM organizations")).all() == [("org_1", "acme")]
        assert connection.execute(text("SELECT to_state, reason FROM lease_transitions")).all() == [
            ("canceled", "cancelled")
        ]
        content, digest = connection.execute(text("SELECT content, sha256 FROM ledger_books")).one()
        assert content == '{"prices":[{"id":"a","organization":"org_1"}]}'
        assert digest == hashlib.sha256(b'{"prices": [{"id": "a", "organization": "org_1"}]}').hexdigest()
