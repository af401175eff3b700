"""Routes of people and invitations."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from sublet.accounts import wire
from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Organization, Require
from sublet.accounts.people.model import IssuedInvitation
from sublet.accounts.people.service import People
from sublet.accounts.service import Accounts
from sublet.accounts.wire import NewInvitation, NewRole
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.clock import Clock
from sublet.values.errors import NotFoundError
from sublet.values.wire import as_answer


def router(accounts: Accounts, people: People, require: Require) -> APIRouter:
    """`/v1/organizations/{organization}/people` and `…/invitations`, for the organization's own and for the operator."""
    routes = APIRouter(tags=["accounts"], route_class=AnswerRoute)
    reader, writer = require("people:read"), require("people:write")
    clock: Clock = accounts.store.clock

    @routes.get("/v1/organizations/{organization}/people")
    def list_people(
        organization: str, actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)
    ) -> wire.PersonList:
        """List the people of an organization with their roles, in the order in which they joined."""
        owner = owned(accounts, actor, organization)
        return as_answer(
            wire.PersonList, people.member_page(owner.id, page).map(lambda member: member.as_dict()).as_dict("people")
        )

    @routes.put("/v1/organizations/{organization}/people/{person_id}/role")
    def set_role(organization: str, person_id: str, body: NewRole, actor: Actor = Depends(writer)) -> wire.Person:
        """Give a person another role, from the next request on."""
        return as_answer(
            wire.Person, people.set_role(owned(accounts, actor, organization), person_id, body.role).as_dict()
        )

    @routes.delete("/v1/organizations/{organization}/people/{person_id}", status_code=204)
    def remove_person(organization: str, person_id: str, actor: Actor = Depends(writer)) -> None:
        """Remove a person from an organization; their sessions there end immediately."""
        people.remove(owned(accounts, actor, organization), person_id)

    @routes.get("/v1/organizations/{organization}/invitations")
    def list_invitations(
        organization: str, actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)
    ) -> wire.InvitationList:
        """List the invitations to an organization, newest first, without their links."""
        found = people.invitation_page(owned(accounts, actor, organization).id, page)
        return as_answer(wire.InvitationList, found.map(lambda item: item.as_dict(clock.now())).as_dict("invitations"))

    @routes.post("/v1/organizations/{organization}/invitations", status_code=201)
    def invite(
        organization: str,
        body: NewInvitation,
        actor: Actor = Depends(require("people:write", effect=Effect(IssuedInvitation, secret=True))),
    ) -> wire.IssuedInvitation:
        """Invite somebody for seven days. Only this response contains the link. An open invitation to the same address is
        replaced."""
        return as_answer(
            wire.IssuedInvitation,
            people.invite(owned(accounts, actor, organization), body.email, body.role, actor.id).as_dict(),
        )

    @routes.delete("/v1/invitations/{invitation_id}", status_code=204)
    def revoke_invitation(invitation_id: str, actor: Actor = Depends(writer)) -> None:
        """Revoke an invitation. Its links stop working immediately."""
        people.revoke_invitation(invitation_id, None if actor.everywhere else actor.organization_id)

    return routes


def owned(accounts: Accounts, actor: Actor, organization: str) -> Organization:
    """The organization by its id or name. Raises NotFoundError, the same for another's."""
    if not actor.everywhere:
        own = accounts.organization(actor.organization_id)
        if organization not in (own.id, own.name):
            raise NotFoundError(f"there is no organization {organization!r}")
        return own
    return accounts.organization(organization)
