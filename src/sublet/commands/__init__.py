"""Every command in its place."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Mount each domain's commands on `app`, in the order in which the data flows."""
    from sublet.accounts import commands as accounts
    from sublet.commands import system
    from sublet.demand import commands as demand
    from sublet.desk import commands as desk
    from sublet.fleet import commands as fleet
    from sublet.leases import commands as leases
    from sublet.ledger import commands as ledger
    from sublet.models import commands as models
    from sublet.surplus import commands as surplus

    system.register(app)
    app.add_typer(accounts.org, name="org")
    app.add_typer(accounts.key, name="key")
    app.add_typer(fleet.app, name="pool")
    app.add_typer(demand.app, name="demand")
    surplus.register(app)
    app.add_typer(leases.app, name="lease")
    app.add_typer(models.app, name="models")
    app.add_typer(ledger.app, name="ledger")
    app.add_typer(ledger.prices, name="prices")
    app.add_typer(desk.app, name="desk")
