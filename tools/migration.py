"""Writes the next migration from the difference between the tables and the newest schema: `migration.py "what changes"`."""

from __future__ import annotations

import sys
import tempfile

from alembic import command

from sublet.store import Store
from sublet.store.schema import config, migrate


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/schema.db")
        migrate(store)
        with store.engine.begin() as connection:
            command.revision(config(connection), message=sys.argv[1], autogenerate=True, rev_id=None)
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
