"""The database: engine, tables, migrations."""

from sublet.store.engine import Store

__all__ = ["Store"]
