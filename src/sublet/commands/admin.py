"""`sublet admin`: what is done to the database and the data directory themselves, on the machine that holds them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.commands.ledger import print_proof
from sublet.config.data_dir import running_system
from sublet.output import JsonFlag, print_json, say, waiting
from sublet.values.clock import SystemClock
from sublet.values.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from sublet.config.settings import Settings
    from sublet.store import Store

app = typer.Typer(no_args_is_help=True, help="The database and the data directory: migrate, back up, restore, move.")

Folder = Annotated[Path, typer.Argument(help="The backup's folder.")]


@app.command()
def backup(
    folder: Folder,
    homes: Annotated[bool, typer.Option(help="Include the home directories of leases.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Back up the database, the gateway's journals and the leases' home directories into a new folder; Sublet can keep running."""
    from sublet.launch import backup as backups

    began = time.monotonic()
    manifest = backups.back_up(_settings(), folder, SystemClock().now(), homes=homes)
    if as_json:
        print_json(manifest)
        return
    say(f"backed up to {folder}, as of {manifest['made_at']}, in {time.monotonic() - began:.1f} s")


@app.command()
def restore(
    folder: Folder,
    overwrite: Annotated[bool, typer.Option(help="Move existing data aside.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Restore a backup to the locations in the settings, after checking its hashes, and prove the books."""
    from sublet.launch import backup as backups
    from sublet.ledger.assembly import ledger_of
    from sublet.store import Store

    settings = _settings()
    manifest = backups.restore(settings, folder, SystemClock().now(), overwrite=overwrite)
    store = Store(settings.database_url)
    try:
        proof = ledger_of(store, settings.billing).prove()
    finally:
        store.close()
    if as_json:
        print_json({**manifest, "proved": proof.ok})
    else:
        say(f"restored the backup of {manifest['made_at']}; the books {'are proved' if proof.ok else 'differ'}")
    if not proof.ok:
        raise typer.Exit(1)


@app.command("migrate")
def migrate_database() -> None:
    """Migrate the database to the schema of this version; `sublet up` also does this, and creates the database if there is none."""
    existing_store(_settings().database_url).close()
    say("the database schema is up to date")


@app.command("pull")
def pull_model(name: Annotated[str, typer.Argument(help="A model of the catalog.")], as_json: JsonFlag = False) -> None:
    """Download a model's file to this machine and check it, before Sublet runs here; an intact file is left unchanged."""
    from sublet.models.catalog import built_in
    from sublet.models.fetching import fetched
    from sublet.models.service import Models

    settings = _settings()
    models = settings.models
    known = built_in(models.slots, models.context_tokens)
    with waiting(f"downloading and checking {name}"):
        if name == known.name:
            path = fetched(known)
        else:
            store = existing_store(settings.database_url)
            try:
                path = Models(store, known).pull(name)
            finally:
                store.close()
    if as_json:
        print_json({"model": name, "path": str(path) if path else None})
    else:
        say(
            f"{name} is at {path}; its SHA-256 is correct"
            if path
            else f"{name} is served elsewhere, so there is nothing to download"
        )


@app.command()
def prove(as_json: JsonFlag = False) -> None:
    """Prove the books from the database itself, without a running Sublet; exit code 1 if something differs."""
    from sublet.ledger.assembly import ledger_of

    settings = _settings()
    store = existing_store(settings.database_url)
    try:
        proof = ledger_of(store, settings.billing).prove()
    finally:
        store.close()
    print_proof(proof.as_dict(), as_json)


@app.command("operator-key")
def operator_key(
    name: Annotated[str, typer.Option(help="What it is for.")] = "operator", as_json: JsonFlag = False
) -> None:
    """Create another operator key. Use this if the key was lost and you have access to the database."""
    from sublet.accounts.service import Accounts
    from sublet.store.audit import Acting, act

    store = existing_store(_settings().database_url)
    try:
        with act(Acting("admin", "", "admin", "admin.operator-key")):
            made, secret = Accounts(store).create_key("operator", name)
    finally:
        store.close()
    if as_json:
        print_json({**made.as_dict(), "secret": secret})
    else:
        say(f"{made.id}  role {made.role}\n{secret}\nIt is shown only once, because only its hash is stored.")


@app.command("invite")
def invite(
    email: Annotated[str, typer.Argument(help="E-mail address to invite.")],
    organization: Annotated[str, typer.Option(help="Id or name.")] = "operator",
    role: Annotated[
        str, typer.Option(help="Role of the person; by default the first role of the organization's kind.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Invite the first person of an organization and print the link. Requires access to the database."""
    from sublet.accounts.people.service import People
    from sublet.accounts.permissions import ROLES_BY_KIND
    from sublet.accounts.service import Accounts
    from sublet.store.audit import Acting, act

    settings = _settings()
    store = existing_store(settings.database_url)
    try:
        accounts = Accounts(store)
        owner = accounts.organization(organization)
        people = People(accounts, settings.control.public_url or _console_url(settings))
        with act(Acting("admin", owner.id, "admin", "admin.invite")):
            made = people.invite(owner, email, role or ROLES_BY_KIND[owner.kind][0], "admin")
    finally:
        store.close()
    if as_json:
        print_json(made.as_dict())
    else:
        say(f"{made.invitation.email} may join {owner.name} as {made.invitation.role}\n{made.link}")
        say("The link works once, expires in 7 days, and is shown only this time.")


@app.command("forget-passkeys")
def forget_passkeys(
    email: Annotated[str, typer.Argument(help="E-mail address of a person who lost every passkey.")],
) -> None:
    """Remove a person's passkeys and end their sessions; their password signs in alone again. Requires access to the database."""
    from sublet.accounts.passkeys.service import Passkeys
    from sublet.accounts.people.sessions import Sessions
    from sublet.accounts.service import Accounts
    from sublet.store.audit import Acting, act

    store = existing_store(_settings().database_url)
    try:
        accounts = Accounts(store)
        with act(Acting("admin", "", "admin", "admin.forget_passkeys")):
            count = Passkeys(accounts, Sessions(accounts)).forget_all(email)
    finally:
        store.close()
    say(f"{count} passkeys of {email} were removed")


def _console_url(settings: Settings) -> str:
    """Where the console answers on this machine, while Sublet runs; else where the settings say."""
    running = running_system(settings.data_dir) or {}
    return str(running.get("control") or f"http://localhost:{settings.control.port}")


def _settings() -> Settings:
    # Reading settings takes longer than a command's help should.
    from sublet.config import settings

    return settings.load()


def existing_store(url: str) -> Store:
    """The database that the settings name. Raises NotFoundError where there is none: looking at one never makes one."""
    from sublet.store import Store
    from sublet.store.schema import migrate

    path = url.removeprefix("sqlite:///")
    if path != url and not Path(path).is_file():
        raise NotFoundError(
            f"there is no database at {path}; `sublet up` creates one, or set database.url to an existing database"
        )
    store = Store(url)
    migrate(store)
    return store


@app.command()
def copy(
    to: Annotated[str, typer.Option("--to", help="URL of an empty database, such as postgresql://user@host/name.")],
    as_json: JsonFlag = False,
) -> None:
    """Copy the database into an empty SQLite or PostgreSQL database, and prove that both are equal. If interrupted,
    run it again to continue."""
    from sublet.ledger.assembly import ledger_of
    from sublet.store import Store
    from sublet.store.copying import copy_database

    settings = _settings()
    if running_system(settings.data_dir) is not None:
        raise ConflictError(
            "Sublet is running on this data directory; stop it with `sublet down` before moving its database"
        )
    source, target = Store(settings.database_url), Store(to)
    try:
        copied = copy_database(source, target)
        proofs = [ledger_of(store, settings.billing).prove() for store in (source, target)]
    finally:
        source.close()
        target.close()
    same = proofs[0].as_dict() == proofs[1].as_dict() and proofs[1].ok
    if as_json:
        print_json({"rows": copied.rows, "digest": copied.digest, "proved": same})
    else:
        say(f"{sum(copied.rows.values())} rows copied and compared; the books {'are proved' if same else 'differ'}")
        say("set database.url to the new database before the next start")
    if not same:
        raise typer.Exit(1)


@app.command("rotate-secrets")
def rotate_secrets(as_json: JsonFlag = False) -> None:
    """Seal the stored secrets with a new key. With the key in a file, one is made; with `secrets.key` set, set the new one there and
    the old one as `secrets.previous_key` first. Sublet must be stopped. Killed, it goes on when called again."""
    from sublet.accounts.people.letters import reseal_letters
    from sublet.accounts.service import reseal_keys
    from sublet.notifications.service import reseal
    from sublet.store.sealing import add_key, drop_old_keys, sealing_of

    settings = _settings()
    if running_system(settings.data_dir) is not None:
        raise ConflictError(
            "Sublet is running on this data directory; stop it with `sublet down` before changing its key"
        )
    stated = settings.secrets.key.get_secret_value()
    store = existing_store(settings.database_url)
    try:
        if not stated:
            add_key(settings.data_dir)
        sealing = sealing_of(settings.data_dir, stated, settings.secrets.previous_key.get_secret_value())
        count = reseal(store, sealing) + reseal_letters(store, sealing) + reseal_keys(store, sealing)
    finally:
        store.close()
    if not stated:
        drop_old_keys(settings.data_dir)
    if as_json:
        print_json({"resealed": count})
    else:
        say(f"{count} secrets sealed with the new key" + ("; remove secrets.previous_key now" if stated else ""))
