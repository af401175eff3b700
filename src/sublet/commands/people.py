"""`sublet person`."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, time

app = typer.Typer(no_args_is_help=True, help="People: who may sign in to the console, and invitations.")

Organization = Annotated[str, typer.Argument(help="Id or name.")]
PersonId = Annotated[str, typer.Argument(help="Id of the person, as shown by `sublet person ls`.")]


@app.command("ls")
def list_people(organization: Organization, as_json: JsonFlag = False) -> None:
    """List the people of an organization."""
    found = connect().collected("accounts.list_people", organization)
    if as_json:
        print_json(found)
    else:
        columns: Columns = {
            "name": "name",
            "email": "e-mail",
            "role": "role",
            "since": time("since"),
            "person_id": "id",
        }
        print_rows(
            found["people"], columns, "no people yet; invite somebody with `sublet person invite ORGANIZATION EMAIL`"
        )


@app.command("invite")
def invite_person(
    organization: Organization,
    email: Annotated[str, typer.Argument(help="E-mail address to invite.")],
    role: Annotated[str, typer.Option(help="Role of the person; see docs/permissions.md.")],
    as_json: JsonFlag = False,
) -> None:
    """Invite somebody and print the link once; it is valid for seven days."""
    client = connect()
    made = client.document("accounts.invite", organization, body={"email": email, "role": role})
    if made["link"].startswith("/"):
        # Without control.public_url the link is a path; the address that answered here works.
        made["link"] = client.url.rstrip("/") + made["link"]
    if as_json:
        print_json(made)
    else:
        say(f"{made['id']}  {made['email']} as {made['role']}\n{made['link']}")
        say("A link was also sent by e-mail." if made["mailed"] else "Pass this link on; it is shown only once.")


@app.command("invitations")
def list_invitations(organization: Organization, as_json: JsonFlag = False) -> None:
    """List the invitations of an organization, newest first."""
    found = connect().collected("accounts.list_invitations", organization)
    if as_json:
        print_json(found)
    else:
        columns: Columns = {
            "email": "e-mail",
            "role": "role",
            "state": "state",
            "expires_at": time("until"),
            "id": "id",
        }
        print_rows(found["invitations"], columns, "no invitations yet")


@app.command("uninvite")
def revoke_invitation(
    invitation_id: Annotated[
        str, typer.Argument(help="Id of the invitation, as shown by `sublet person invitations`.")
    ],
) -> None:
    """Revoke an open invitation: its links stop working."""
    connect().document("accounts.revoke_invitation", invitation_id)
    say(f"{invitation_id} is revoked")


@app.command("role")
def set_role(
    organization: Organization, person_id: PersonId, role: Annotated[str, typer.Argument(help="The new role.")]
) -> None:
    """Change the role of a person in an organization."""
    made = connect().document("accounts.set_role", organization, person_id, body={"role": role})
    say(f"{made['email']} is {made['role']} now")


@app.command("remove")
def remove_person(organization: Organization, person_id: PersonId) -> None:
    """Remove a person from an organization; their sessions there end immediately."""
    connect().document("accounts.remove_person", organization, person_id)
    say(f"{person_id} is removed")
