"""`[[positioning.returns]]`: how a stock has moved with its market, and how far its last move lies outside that history."""

from __future__ import annotations

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line
from sublet.desk.errors import nearest
from sublet.desk.positioning import Regression, regression
from sublet.desk.sheet import Status, Value
from sublet.desk.vectors import Vector


def read_returns(table: Table, build: Build) -> list[tuple[str, str]]:
    """One history: gives `pos.ID.beta`, `.alpha`, `.r2`, `.residual_sd`, and for the move `.residual` and `.z`.

    `owner` and `market` are columns of one table, so that they may come from a file; `move` and `market_move` name values.
    """
    id_, title = table.text("id"), table.text("title")
    owner, market = (_column(table, key, build) for key in ("owner", "market"))
    if owner.of != market.of:
        raise table.fail(
            "market", f"{owner.text} and {market.text} are of two tables; put both returns into one, row by row"
        )
    source, name = build.source(table), f"pos.{id_}"
    numbers = [
        [term.value * float(term.unit.scale if term.unit else 1) for term in each.terms] for each in (owner, market)
    ]
    found: Regression = at_line(table, "owner", regression, *numbers)
    over = f"{len(numbers[0])} returns, {owner.labels[0]} to {owner.labels[-1]}"
    for key, number, unit, how in (
        ("beta", found.beta, "x", "slope of the owner's returns on the market's"),
        ("alpha", found.alpha, "share", "return where the market stands still"),
        ("r2", found.explained, "share", "share of variance that the market explains"),
        ("residual_sd", found.residual_sd, "share", "standard deviation of what the market leaves"),
    ):
        value = Value(
            f"{name}.{key}",
            number,
            unit,
            Status.DERIVED,
            source.title,
            source.date,
            f"{how}, {over}",
            line=table.line(),
        )
        at_line(table, "id", build.sheet.give, value)
    move, market_move = build.named(table, "move", "share"), build.named(table, "market_move", "share")
    parts = {key: build.ref(f"{name}.{key}").bare() for key in ("beta", "alpha", "residual_sd")}
    residual = move.bare() - parts["alpha"] - parts["beta"] * market_move.bare()
    build.derive(table, f"{name}.residual", residual, "share", note="at most positioning and the company's own news")
    build.derive(table, f"{name}.z", build.ref(f"{name}.residual").bare() / parts["residual_sd"], "z", note=over)
    table.finish()
    return [
        (f"{title}, z over {over}", f"{name}.z"),
        (f"{title}, beta", f"{name}.beta"),
        (f"{title}, residual", f"{name}.residual"),
    ]


def _column(table: Table, key: str, build: Build) -> Vector:
    name = table.text(key)
    found = at_line(table, key, build.list_of, name)
    if found is None:
        raise table.fail(key, f"{name!r} is not a column of a table; {nearest(name, build.lists)}")
    return found
