"""Routes of blocks: for the operator, who decides; read by internal teams, who must know what they may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Actor, Require
from sublet.leases import wire
from sublet.leases.blocks.service import BlockChanged, BlockChangeRequest, BlockMade, Blocks, NewBlockRequest
from sublet.leases.quotes.admission import BlockSale
from sublet.leases.wire import NewBlock, NewBlockChange
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.surplus.blocks.advice import COUNTS_MAX
from sublet.values.errors import InvalidInputError
from sublet.values.etags import Condition
from sublet.values.money import nano_from_decimal
from sublet.values.wire import as_answer


def router(blocks: Blocks, require: Require, organization_of: Callable[[str], str]) -> APIRouter:
    """`/v1/blocks`. `organization_of` gives an organization's id by its id or name and raises NotFoundError."""
    routes = APIRouter(tags=["blocks"], route_class=AnswerRoute)
    seen, writer = Depends(require("blocks:read")), require("blocks:write")

    @routes.post("/v1/blocks", status_code=201)
    def create(
        body: NewBlock, actor: Actor = Depends(require("blocks:write", effect=Effect(BlockMade)))
    ) -> wire.BlockMade:
        """Put a part of a pool up for sale for up to three years. With `to_organization`, sell all of it at once."""
        request = NewBlockRequest(
            body.pool,
            body.accelerators,
            body.end,
            body.start,
            _nano(body.min_price_per_accelerator_hour),
            body.reason,
        )
        return as_answer(wire.BlockMade, blocks.create(request, _who(actor), _sale(body, organization_of)).as_dict())

    @routes.get("/v1/blocks", dependencies=[seen])
    def list_blocks(
        pool: Annotated[str | None, Query(max_length=60)] = None,
        live: bool = False,
        page: PageRequest = Depends(page_request),
    ) -> wire.BlockPage:
        """List blocks, newest first. With `live`, blocks that are withdrawn or over are left out."""
        found = blocks.page(pool, page, standing_only=live)
        return as_answer(wire.BlockPage, found.map(lambda item: item.as_dict()).as_dict("blocks"))

    @routes.get("/v1/blocks/advice", dependencies=[Depends(require("demand:read"))])
    def advise(
        pool: Annotated[str, Query(max_length=60)],
        accelerators: Annotated[list[int] | None, Query(max_length=COUNTS_MAX)] = None,
        length_days: Annotated[list[int] | None, Query(max_length=COUNTS_MAX)] = None,
    ) -> wire.BlockAdvice:
        """Show how much of the owner's work blocks of several sizes and lengths would have displaced, based on the pool's
        history."""
        return as_answer(wire.BlockAdvice, blocks.advise(pool, accelerators, length_days))

    @routes.get("/v1/blocks/{block_id}", dependencies=[seen])
    def show(request: Request, block_id: str) -> Tagged[wire.BlockDetail]:
        """Show a block with its leases, how much of it is sold when, and every change."""
        found = blocks.block(block_id)
        return shown(request, wire.BlockDetail, found.as_dict(), asdict(found.block))

    @routes.post("/v1/blocks/{block_id}/change")
    def change(
        block_id: str,
        body: NewBlockChange,
        actor: Actor = Depends(require("blocks:write", effect=Effect(BlockChanged))),
        seen: Condition = Depends(if_match),
    ) -> Tagged[wire.BlockChanged]:
        """Grow, shrink, move, reprice or withdraw a block. Leases sold from it are broken only with `force`, and their
        credits are due."""
        if body.force:
            actor.require("firm:write")
        made = blocks.change(block_id, _change(body), _who(actor), seen)
        return changed(wire.BlockChanged, made.as_dict(), asdict(made.plan.after))

    @routes.post("/v1/blocks/{block_id}/preview")
    def preview(block_id: str, body: NewBlockChange, actor: Actor = Depends(writer)) -> wire.BlockChanged:
        """Preview a change of a block and which leases it would break. Nothing is changed."""
        return as_answer(wire.BlockChanged, blocks.preview(block_id, _change(body)).as_dict())

    return routes


def _sale(body: NewBlock, organization_of: Callable[[str], str]) -> BlockSale | None:
    if body.to_organization is None:
        if body.price_per_accelerator_hour is not None or body.ssh_public_keys:
            raise InvalidInputError(
                "price_per_accelerator_hour and ssh_public_keys are for selling a block; set to_organization as well",
                field="to_organization",
            )
        return None
    if not body.ssh_public_keys:
        raise InvalidInputError(
            "ssh_public_keys: send the public keys that the organization will log in with", field="ssh_public_keys"
        )
    price_nano = _nano(body.price_per_accelerator_hour)
    if price_nano is not None and price_nano < 0:
        raise InvalidInputError("price_per_accelerator_hour must be 0 or more", field="price_per_accelerator_hour")
    return BlockSale(organization_of(body.to_organization), tuple(body.ssh_public_keys), price_nano)


def _change(body: NewBlockChange) -> BlockChangeRequest:
    return BlockChangeRequest(
        accelerators=body.accelerators,
        start=body.start,
        end=body.end,
        min_price_nano=_nano(body.min_price_per_accelerator_hour),
        withdraw=body.withdraw,
        reason=body.reason,
        force=body.force,
    )


def _nano(amount: Decimal | None) -> int | None:
    return None if amount is None else nano_from_decimal(amount)


def _who(actor: Actor) -> str:
    return f"operator {actor.key_id}"
