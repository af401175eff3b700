"""Every command in its place, imported only when it is called, so that the command starts quickly."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS: dict[str, tuple[str, str, str]] = {
    "login": ("sublet.commands.session", "login", "Save the URL of a service and your key as a profile."),
    "logout": ("sublet.commands.session", "logout", "Forget a profile and its key."),
    "profile": ("sublet.commands.session", "profile", "Profiles: the services that you are logged in to."),
    "open": ("sublet.commands.session", "open_console", "Open the console in the browser."),
    "up": ("sublet.commands.system", "up", "Run the system until Ctrl-C."),
    "down": ("sublet.commands.system", "down", "Stop the system; leases keep running unless --end-leases is set."),
    "demo": ("sublet.commands.system", "demo", "Play the whole story on this machine."),
    "doctor": (
        "sublet.commands.system",
        "doctor",
        "Check what this machine can do, what is missing, and the consequences.",
    ),
    "support": ("sublet.commands.support", "app", "Bug reports: one file without secrets."),
    "status": ("sublet.commands.system", "status", "Show whether the system is running on this machine, and where."),
    "plan": ("sublet.commands.plan", "plan", "Show what the system will do next, before it does it."),
    "serve": ("sublet.commands.system", "serve", "Run a single process of the system."),
    "admin": ("sublet.commands.admin", "app", "The database and the data directory of this machine."),
    "tls": ("sublet.commands.tls", "app", "HTTPS: a certificate of your own authority."),
    "node": ("sublet.commands.node", "app", "Nodes: the machines that serve this database."),
    "org": ("sublet.commands.accounts", "org", "Organizations: the operator, internal teams, customers."),
    "person": ("sublet.commands.people", "app", "People: who may sign in to the console, and invitations."),
    "key": ("sublet.commands.accounts", "key", "API keys: create, list, revoke."),
    "service-account": (
        "sublet.commands.accounts",
        "service_account",
        "Service accounts: programs whose keys no person's leaving ends.",
    ),
    "limit": ("sublet.commands.limits", "app", "Limits of the model API: requests, tokens, concurrency, models."),
    "audit": ("sublet.commands.audit", "app", "The audit log: who did what, when; export and proof."),
    "pool": ("sublet.commands.fleet", "app", "Pools: what is owned, where, at how many watts."),
    "demand": ("sublet.commands.demand", "app", "What the owner needs: samples, history, claims."),
    "surplus": ("sublet.commands.surplus", "surplus", "What may be sold now, and why the rest is withheld."),
    "record": ("sublet.commands.surplus", "record", "What was promised against what happened."),
    "shadow": ("sublet.commands.trials", "shadow", "What would have been sold and earned, without selling anything."),
    "backtest": ("sublet.commands.trials", "backtest", "How well policies sell a demand history."),
    "image": ("sublet.commands.images", "app", "Images: root file systems that leases run on."),
    "volume": ("sublet.commands.volumes", "app", "Volumes: disks that outlive leases."),
    "block": ("sublet.commands.blocks", "app", "Blocks: parts of pools that the owner sells by its own decision."),
    "maintenance": (
        "sublet.commands.maintenance",
        "app",
        "Planned maintenance: accelerators that are away for a time.",
    ),
    "lease": ("sublet.commands.leases", "app", "Raw leases: quote, take, log in, end."),
    "waitlist": ("sublet.commands.waitlist", "app", "The waiting list: requests that wait for capacity."),
    "job": ("sublet.commands.jobs", "app", "Jobs: commands that run on leases of their own."),
    "reclaim": ("sublet.commands.reclaims", "app", "Reclaim capacity for its owner."),
    "models": ("sublet.commands.models", "app", "Managed models: the catalog, deployments, replicas."),
    "ledger": ("sublet.commands.ledger", "app", "Usage, invoices, credits, exports, and the proof."),
    "owe": ("sublet.commands.owing", "owe", "What an organization owes now, and what the month may come to."),
    "subscription": ("sublet.commands.subscriptions", "app", "Plans, and customers' subscriptions to them."),
    "prices": ("sublet.commands.prices", "app", "The price book: check, publish, show."),
    "webhook": ("sublet.commands.notifications", "webhook", "Webhooks: signed messages when something happens."),
    "mcp": ("sublet.commands.mcp", "mcp", "Serve agents: see models, quote and take leases (Model Context Protocol)."),
    "notifications": (
        "sublet.commands.notifications",
        "notifications",
        "Who is notified of events, and what was sent.",
    ),
    "yield": ("sublet.commands.yielding", "app", "The best use of idle capacity, and what an hour is worth."),
    "desk": ("sublet.commands.desk", "app", "What it is worth: cases, reports, scenarios."),
}
"""Name of each command, where it is, and its line in the list; in the order in which the data flows."""


COMPLETING = "_SUBLET_COMPLETE"
"""Set by the shell where it asks how a line may go on."""


class Commands(TyperGroup):
    """The commands of COMMANDS, each imported when somebody asks for it."""

    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        # The list of commands needs their lines alone: importing them all would take seconds.
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        # Completing the first word needs the lines alone, too.
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        place, name, line = COMMANDS[cmd_name]
        if self._listing:
            return TyperCommand(cmd_name, help=line)
        found = getattr(import_module(place), name)
        # As a group even where it has one command only, which Typer would put in the group's place.
        grouped = isinstance(found, typer.Typer)
        if grouped:
            # Help as plain text: styling it would take longer than all the rest.
            found.rich_markup_mode = None
        command = typer.main.get_group(found) if grouped else typer.main.get_command(_alone(found))
        command.name = cmd_name
        command.short_help = line
        if COMPLETING in os.environ:
            from sublet.commands.completing import attach

            attach(command, cmd_name)
        return command


def _alone(function: Any) -> typer.Typer:
    """A Typer with one command, which is that command itself."""
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command()(function)
    return single
