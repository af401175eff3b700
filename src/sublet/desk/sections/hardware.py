"""`[hardware]`: what an accelerator draws, from a system's published maximum."""

from __future__ import annotations

from sublet.desk.case import Build
from sublet.desk.documents import Table
from sublet.desk.sheet import Status, Value


def read(root: Table, build: Build) -> None:
    """`[hardware.NAME]`: a system's maximum draw over its accelerators gives watts at IT level."""
    for name, table in root.named_tables("hardware"):
        with build.faults.gathered():
            _hardware(name, table, build)


def _hardware(name: str, table: Table, build: Build) -> None:
    source = build.source(table)
    note = table.text("note", "")
    for key, unit in (("system_w", "W, IT"), ("accelerators", "accelerators")):
        given = Value(
            f"hw.{name}.{key}", table.number(key), unit, Status.EXTERNAL, source.title, source.date, note=note,
            line=table.line(key),
        )  # fmt: skip
        if not given.number > 0:
            raise table.fail(key, f"{key} is {given.number:g}; write a number above zero")
        build.sheet.give(given)
    watts = build.ref(f"hw.{name}.system_w") / build.ref(f"hw.{name}.accelerators")
    build.derive(
        table, f"par.watts_it.{name}", watts, "W per accelerator, server or rack level",
        note="system max / accelerators",
    )  # fmt: skip
    if table.has("all_in_w"):
        all_in = Value(
            f"par.watts_all_in.{name}", table.number("all_in_w"), "W per accelerator, all-in utility",
            Status.EXTERNAL, build.source(table, "all_in_source").title, build.source(table, "all_in_source").date,
            line=table.line("all_in_w"),
        )  # fmt: skip
        build.sheet.give(all_in)
    table.finish()
