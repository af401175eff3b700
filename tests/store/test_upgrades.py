"""A database of each released schema comes up to this one with all that it holds, and never under a process that serves it."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from sublet.fleet.nodes import Presence
from sublet.store import Store, processes
from sublet.store.metadata import metadata
from sublet.store.processes import Process
from sublet.store.schema import SERVING_S, SchemaInUseError, config, migrate, newest_revision
from sublet.values.clock import SimulatedClock
from sublet.values.errors import UnavailableError

RELEASED = ("011f3922606c", "a2a7afdb60b4")
"""The newest schema of each version that somebody may have run: that of 0.1, and that of 0.2."""

_ROWS_0_1 = (
    "INSERT INTO organisations (id, name, kind, currency, timezone, status, created_at) "
    "VALUES ('org_1', 'acme', 'customer', 'USD', 'UTC', 'active', 0)",
    "INSERT INTO pools (id, name, site, generation, backend, watts_mw, watts_source, price_nano, currency, tenure, online_at, "
    "updated_at) VALUES ('pool_1', 'main', 'here', 'h100', 'local', 700000, 'stated', 1, 'USD', 'owned', 0, 0)",
    "INSERT INTO units (id, pool_id, position, device, in_service) VALUES ('unit_1', 'pool_1', 0, 'nvidia:0', 1)",
    "INSERT INTO leases (id, organisation_id, pool_id, quote_id, class_name, accelerators, unit_ids, devices, start_at, end_at, "
    "price_nano, currency, state, ssh_public_keys, created_at, credit_nano, metered_s, credit_ratio, free_s) VALUES ('lse_1', "
    "'org_1', 'pool_1', 'quo_1', 'firm', 1, '[]', '[]', 0, 1, 1, 'USD', 'cancelled', '[]', 0, 0, 0, '0', 0)",
    "INSERT INTO ledger_budgets (id, organisation_id, scope, scope_id, period, kind, limit_nano, hard, thresholds, webhook_url, "
    "webhook_secret, email, opening_line, created_at) VALUES ('bud_1', 'org_1', 'organisation', '', 'month', 'budget', 9, true, "
    "'[50]', 'https://hooks.example.com/', 's3cret', 'ops@example.com', 0, 7)",
)
_ROWS_0_2 = (
    "INSERT INTO organizations (id, name, kind, currency, timezone, status, created_at) "
    "VALUES ('org_1', 'acme', 'customer', 'USD', 'UTC', 'active', 0)",
    "INSERT INTO pools (id, name, site, generation, backend, watts_mw, watts_source, price_nano, currency, tenure, online_at, "
    "updated_at) VALUES ('pool_1', 'main', 'here', 'h100', 'local', 700000, 'stated', 1, 'USD', 'owned', 0, 0)",
    "INSERT INTO units (id, pool_id, position, device, in_service) VALUES ('unit_1', 'pool_1', 0, 'nvidia:0', 1)",
    "INSERT INTO leases (id, organization_id, pool_id, quote_id, class_name, accelerators, unit_ids, devices, start_at, end_at, "
    "price_nano, currency, state, ssh_public_keys, created_at, credit_nano, metered_s, credit_ratio, free_s, on_failure, shrunk_by) "
    "VALUES ('lse_1', 'org_1', 'pool_1', 'quo_1', 'firm', 1, '[]', '[]', 0, 1, 1, 'USD', 'canceled', '[]', 0, 0, 0, '0', 0, "
    "'shrink', 0)",
    "INSERT INTO ledger_budgets (id, organization_id, scope, scope_id, period, kind, limit_nano, hard, thresholds, opening_line, "
    "created_at) VALUES ('bud_1', 'org_1', 'organization', '', 'month', 'budget', 9, true, '[50]', 0, 7)",
    "INSERT INTO subscriptions (id, organization_id, name, channel, address, format, kinds, subject, secret, enabled, internal, "
    "from_position, created_by, created_at, failures, confirmed_at) VALUES ('sub_1', 'org_1', 'ops', 'webhook', "
    "'https://hooks.example.com/', 'standard', '[\"budget.*\"]', 'bud_1', 'plain:s3cret', true, false, 0, 'key_1', 7, 0, 7)",
    "INSERT INTO subscriptions (id, organization_id, name, channel, address, format, kinds, subject, enabled, internal, "
    "from_position, created_by, created_at, failures, confirmed_at) VALUES ('sub_2', 'org_1', 'ops', 'email', 'ops@example.com', "
    "'standard', '[\"budget.*\"]', 'bud_1', true, false, 0, 'key_1', 7, 0, 8)",
)
_WRITTEN = dict(zip(RELEASED, ((_ROWS_0_1, "organisation_id"), (_ROWS_0_2, "organization_id")), strict=True))
_EVENTS = (
    "INSERT INTO ledger_events (seq, source, event_id, kind, {owner}, meter, quantity, at, received_at, resource, "
    "project, key_id, dimensions) SELECT n, 'test', 'evt_' || n, 'usage', 'org_1', 'accelerator.seconds', n, n, n, 'lse_1', "
    "'', '', '{}' FROM "
)
_NUMBERS = {
    "sqlite": "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c) AS numbers",
    "postgresql": "generate_series(1, {rows}) AS n",
}


def written_by(store: Store, revision: str, rows: int) -> None:
    """The database as that version left it, with so many usage events."""
    metadata.drop_all(store.engine)
    with store.engine.begin() as connection:
        command.upgrade(config(connection), revision)
        statements, owner = _WRITTEN[revision]
        events = _EVENTS.replace("{owner}", owner)
        for statement in (*statements, events + _NUMBERS[connection.dialect.name].format(rows=rows)):
            connection.execute(text(statement))


def after(store: Store, revision: str) -> list[str]:
    """The revisions that followed that one, the first one first."""
    with store.read() as connection:
        found = ScriptDirectory.from_config(config(connection)).iterate_revisions("heads", revision)
        return [item.revision for item in reversed(list(found))]


def check(store: Store, rows: int) -> None:
    with store.read() as connection:
        found = connection.execute(
            text(
                "SELECT count(*), sum(quantity) FROM ledger_events WHERE organization_id = 'org_1' AND source = 'test'"
            )
        ).one()
        state = connection.execute(text("SELECT state FROM leases WHERE id = 'lse_1'")).scalar_one()
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        [budget] = connection.execute(text("SELECT scope FROM ledger_budgets")).scalars()
        told = connection.execute(
            text(
                "SELECT channel, address, subject, secret, kinds, organization_id FROM subscriptions WHERE enabled AND NOT internal "
                "ORDER BY channel"
            )
        ).all()
    assert [tuple(row) for row in told] == [
        ("email", "ops@example.com", "bud_1", None, '["budget.*"]', "org_1"),
        ("webhook", "https://hooks.example.com/", "bud_1", "plain:s3cret", '["budget.*"]', "org_1"),
    ]
    assert tuple(map(int, found)) == (rows, rows * (rows + 1) // 2)
    assert (state, budget, revision) == ("canceled", "organization", newest_revision())


@pytest.mark.parametrize("revision", RELEASED)
def test_what_a_released_version_wrote_comes_along(any_store: Store, revision: str) -> None:
    written_by(any_store, revision, 5_000)
    migrate(any_store)
    check(any_store, 5_000)


@pytest.mark.real
@pytest.mark.timeout(300)
@pytest.mark.parametrize("revision", RELEASED)
def test_a_million_usage_rows_come_along(postgres_store: Store, revision: str) -> None:
    written_by(postgres_store, revision, 1_000_000)
    moments = [time.monotonic()]
    migrate(postgres_store, lambda _: moments.append(time.monotonic()))
    longest = max((end - begin for begin, end in pairwise(moments)), default=0.0)
    print(
        f"{revision} to {newest_revision()} with 1,000,000 usage rows: {moments[-1] - moments[0]:.2f} s in "
        f"{len(moments) - 1} transactions, the longest {longest:.2f} s"
    )
    check(postgres_store, 1_000_000)


@pytest.mark.parametrize("revision", RELEASED)
def test_a_migration_that_is_killed_goes_on_where_it_stopped(any_store: Store, revision: str) -> None:
    class KilledError(Exception):
        """The process is gone."""

    def killed(done: str) -> None:
        seen.append(done)
        raise KilledError

    written_by(any_store, revision, 100)
    seen: list[str] = []
    while True:
        try:
            migrate(any_store, killed)
        except KilledError:
            continue
        break
    assert seen == after(any_store, revision)
    check(any_store, 100)


def _behind(store: Store) -> None:
    """The newest tables, and a revision that says that one migration is missing: none would change anything."""
    migrate(store)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '011f3922606c'"))


def test_nothing_is_migrated_under_a_process_that_serves(
    any_store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata.drop_all(any_store.engine)
    _behind(any_store)
    done: list[str] = []

    def upgrade(made: Config, revision: str) -> None:
        done.append(revision)
        made.attributes["connection"].execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})

    monkeypatch.setattr(command, "upgrade", upgrade)
    now = clock.now()
    old = Process("prc_1", "nod_1", "gateway", "0.1.0", "011f3922606c", 4242, now, now)
    any_store.write(lambda connection: processes.save_process(connection, old))
    with pytest.raises(SchemaInUseError, match=r"gateway process of version 0\.1\.0 \(process 4242 on node nod_1\)"):
        migrate(any_store)
    assert done == []
    Presence(any_store, "nod_2", "new", "control").beat()
    clock.advance(SERVING_S + 1)
    migrate(any_store)
    assert done[-1] == newest_revision(), "one that gave no sign of life, or is of this version, is in nobody's way"


@pytest.mark.real
def test_a_migration_waits_a_second_for_a_table_and_no_longer(postgres_store: Store) -> None:
    written_by(postgres_store, RELEASED[0], 10)
    other = Store(postgres_store.url.render_as_string(hide_password=False))
    try:
        with other.read() as reading:
            reading.execute(text("SELECT * FROM leases")).all()
            with pytest.raises(UnavailableError, match="a table was locked"):
                migrate(postgres_store)
    finally:
        other.close()
    migrate(postgres_store)
    check(postgres_store, 10)


def test_the_rule_is_written_down() -> None:
    told = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    assert "expand, migrate, contract" in told.lower()
