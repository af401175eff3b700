"""The operations of organizations, their people and their keys."""

from __future__ import annotations

from sublet.client.operation import PAGE, Operation

ACCOUNTS: tuple[Operation, ...] = (
    Operation("accounts.whoami", "GET", "/v1/whoami", answer="accounts:Identity"),
    Operation(
        "accounts.list_organizations",
        "GET",
        "/v1/organizations",
        query=PAGE,
        answer="accounts:OrganizationList",
        items="organizations",
    ),
    Operation(
        "accounts.create_organization",
        "POST",
        "/v1/organizations",
        body="accounts:NewOrganization",
        answer="accounts:Organization",
    ),
    Operation(
        "accounts.list_keys",
        "GET",
        "/v1/organizations/{organization}/keys",
        query=PAGE,
        answer="accounts:KeyList",
        items="keys",
    ),
    Operation(
        "accounts.create_key",
        "POST",
        "/v1/organizations/{organization}/keys",
        body="accounts:NewKey",
        answer="accounts:IssuedKey",
    ),
    Operation("accounts.revoke_key", "DELETE", "/v1/keys/{key_id}", answer="none"),
    Operation("accounts.suspend", "POST", "/v1/organizations/{organization}/suspend", answer="accounts:Organization"),
    Operation("accounts.resume", "POST", "/v1/organizations/{organization}/resume", answer="accounts:Organization"),
    Operation(
        "accounts.list_people",
        "GET",
        "/v1/organizations/{organization}/people",
        query=PAGE,
        answer="accounts:PersonList",
        items="people",
    ),
    Operation(
        "accounts.set_role",
        "PUT",
        "/v1/organizations/{organization}/people/{person_id}/role",
        body="accounts:NewRole",
        answer="accounts:Person",
    ),
    Operation("accounts.remove_person", "DELETE", "/v1/organizations/{organization}/people/{person_id}", answer="none"),
    Operation(
        "accounts.list_invitations",
        "GET",
        "/v1/organizations/{organization}/invitations",
        query=PAGE,
        answer="accounts:InvitationList",
        items="invitations",
    ),
    Operation(
        "accounts.invite",
        "POST",
        "/v1/organizations/{organization}/invitations",
        body="accounts:NewInvitation",
        answer="accounts:IssuedInvitation",
    ),
    Operation(
        "accounts.list_audit",
        "GET",
        "/v1/audit",
        query=("organization_id", "actor_id", "operation", "subject", *PAGE),
        answer="accounts:AuditList",
        items="entries",
    ),
    Operation("accounts.verify_audit", "GET", "/v1/audit/verify", answer="accounts:AuditVerified"),
    Operation("accounts.revoke_invitation", "DELETE", "/v1/invitations/{invitation_id}", answer="none"),
)
