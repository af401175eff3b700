"""The rule about tables finds who queries another package's, by import or in SQL text, and lets the owner be."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.manual import tool

ownership = tool("ownership")


def breaches(tmp_path: Path, package: str, source: str) -> list[str]:
    tables = tmp_path / "store" / "tables"
    tables.mkdir(parents=True)
    (tables / "leases.py").write_text('leases = Table("leases", metadata)\n')
    (tables / "ledger.py").write_text('lines = Table("ledger_lines", metadata)\n')
    (tables / "outbox.py").write_text('outbox_events = Table("outbox_events", metadata)\n')
    (tmp_path / package).mkdir(exist_ok=True)
    (tmp_path / package / "module.py").write_text(source)
    return list(ownership.Ownership(tmp_path).breaches(tmp_path))


@pytest.mark.parametrize(
    "source",
    [
        "from sublet.store.tables.leases import leases\n",
        "from sublet.store.tables import leases\n",
        "import sublet.store.tables.leases as tables\n",
        "def late():\n    from sublet.store.tables.leases import leases\n",
        "from sublet.store.tables.outbox import outbox_events\n",
        'text("SELECT id FROM leases WHERE id = :id")\n',
        'text(f"UPDATE leases SET {column} = 1")\n',
        'text("SELECT 1 FROM ledger_lines l JOIN leases x ON x.id = l.resource")\n',
        "from sublet.leases import store as sql\n",
        "from sublet.leases.store import live_leases\n",
        "from sublet.leases.reclaim.store import back_off\n",
        "from sublet.fleet.node_store import last_seen\n",
    ],
)
def test_another_packages_tables_and_sql_are_found(tmp_path: Path, source: str) -> None:
    (found,) = breaches(tmp_path, "ledger", source)
    assert found.startswith("ledger/module.py:") and "; ask " in found


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("leases", "from sublet.store.tables.leases import leases\n"),
        ("leases", "from sublet.leases import store as sql\n"),
        ("leases", 'text("SELECT id FROM leases")\n'),
        ("ledger", 'text("DELETE FROM ledger_lines")\n'),
        ("ledger", 'HELP = "`sublet lease ls` shows leases; SELECT one"\n'),
        ("ledger", "from sublet.store import Store\nfrom sublet.store.types import Instant\n"),
        ("ledger", "from sublet.accounts.directory import organizations\n"),
        ("store", "from sublet.store.tables.outbox import outbox_events\n"),
        ("wiring", "from sublet.leases import store as leases_sql\n"),
    ],
)
def test_the_owner_and_what_is_published_are_let_be(tmp_path: Path, package: str, source: str) -> None:
    assert breaches(tmp_path, package, source) == []


def test_every_table_has_an_owner_that_exists() -> None:
    source = Path(__file__).parents[2] / "src" / "sublet"
    for path in (source / "store" / "tables").glob("[a-z]*.py"):
        assert (source / ownership.owner_of_module(path.stem)).is_dir(), path.stem
