"""`sublet ledger example`: a month of a made-up company, and its closing package."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from sublet.output import JsonFlag, print_json, say
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError


def example(
    out: Annotated[Path, typer.Argument(help="A new or empty directory for the closing package.", file_okay=False)],
    customers: Annotated[int, typer.Option(help="How many customers the company has.", min=20, max=40)] = 40,
    seed: Annotated[int, typer.Option(help="The same seed plays the same month.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Play a month of a made-up company and write its closing package. Needs no running Sublet."""
    from sqlalchemy import URL

    from sublet.ledger.example.month import LABEL, play
    from sublet.ledger.example.package import write_package
    from sublet.store import Store
    from sublet.store.schema import migrate

    if out.exists() and any(out.iterdir()):
        raise InvalidInputError(f"{out} is not empty; choose another directory")
    out.mkdir(parents=True, exist_ok=True)
    # A directory's name may have letters that mean something in a URL.
    url = URL.create("sqlite", database=str(out.resolve() / "books.db")).render_as_string()
    with closing(Store(url, SimulatedClock())) as store:
        migrate(store)
        month = play(store, customers, seed, told=(lambda text: None) if as_json else say)
        made = write_package(month.ledger, LABEL, list(month.owners.values()), out)
    if as_json:
        found = {"invoices": made.invoices, "credit_notes": made.notes, "difference": made.difference}
        print_json(found | {"ready": made.ready, "files": made.files, "directory": str(out)})
        return
    say(f"{made.invoices} invoices and {made.notes} credit notes of {LABEL}; proof: difference {made.difference}")
    say(f"Open {out / 'index.html'}")
