"""Writes the next migration from the difference between the tables and the newest schema: `migration.py "what changes"`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.script import Script

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
            made = command.revision(config(connection), message=sys.argv[1], autogenerate=True)
        store.close()
    assert isinstance(made, Script)
    ruff = str(Path(sys.executable).parent / "ruff")
    for words in (["format"], ["check", "--fix"], ["format"]):
        subprocess.run([ruff, *words, "--quiet", made.path], check=True)
    print(f"{made.path}: read it, then run the tests on both databases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
