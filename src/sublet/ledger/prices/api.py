"""Routes of rate cards: what was agreed with one customer."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Actor, Require
from sublet.ledger.prices import wire
from sublet.ledger.prices.book import PriceBook
from sublet.ledger.prices.cards import CARD_BYTES_MAX, card_from_toml
from sublet.ledger.service import Ledger
from sublet.values.errors import InvalidInputError
from sublet.values.etags import Condition

Seen = Annotated[Condition, Depends(if_match)]
_CARD_BODY = {
    "requestBody": {
        "required": True,
        "description": "A rate card: a price book of one organization.",
        "content": {"application/toml": {"schema": {"type": "string", "maxLength": CARD_BYTES_MAX}}},
    }
}


def card_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    """Read by whose they are, written by the operator."""

    @routes.get("/v1/rate-cards/{organization_id}")
    def read_card(
        request: Request, organization_id: str, actor: Annotated[Actor, Depends(require("prices:read"))]
    ) -> Tagged[wire.RateCard]:
        """Show an organization's rate card. It is empty if the organization has none."""
        owner = actor.whose(organization_id)
        card = ledger.publishing.card_of(owner)
        return shown(request, wire.RateCard, _as_dict(owner, card), card.version)

    @routes.put(
        "/v1/rate-cards/{organization_id}", dependencies=[Depends(require("prices:write"))], openapi_extra=_CARD_BODY
    )
    async def publish_card(request: Request, organization_id: str, seen: Seen) -> Tagged[wire.RateCard]:
        """Publish an organization's rate card (TOML). Published entries can end, but can't change or disappear."""
        body = await request.body()
        if len(body) > CARD_BYTES_MAX:
            raise InvalidInputError(f"a rate card has at most {CARD_BYTES_MAX} bytes")
        try:
            card = card_from_toml(body.decode(), organization_id, "the body")
        except UnicodeDecodeError as error:
            raise InvalidInputError("a rate card is UTF-8 text") from error
        await run_in_threadpool(ledger.publishing.card, organization_id, card, seen)
        found = await run_in_threadpool(ledger.publishing.card_of, organization_id)
        return changed(wire.RateCard, _as_dict(organization_id, found), found.version)


def _as_dict(organization_id: str, card: PriceBook) -> dict[str, Any]:
    sections = {name: card.content.get(name, []) for name in ("prices", "discounts", "commitments")}
    return {"organization_id": organization_id, "version": card.version, "name": card.name, **sections}
