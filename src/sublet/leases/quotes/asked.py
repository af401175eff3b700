"""A request for a quote, from the body that a client sends."""

from __future__ import annotations

from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.states import OnFailure, OnReclaim
from sublet.leases.wire.contracts import NewQuote


def quote_request(body: NewQuote, project: str) -> QuoteRequest:
    """The request of `body`, asked for by a key of `project` (empty for none)."""
    return QuoteRequest(
        accelerators=body.accelerators,
        class_name=body.class_ or "",
        end=body.end,
        start=body.start,
        pool=body.pool,
        generation=body.generation,
        duration_s=body.duration_s,
        on_failure=OnFailure(body.on_failure),
        on_reclaim=OnReclaim(body.on_reclaim),
        network=tuple(body.network or ()),
        service_s=body.service_s,
        finish_by=body.finish_by,
        volumes=tuple(body.volumes or ()),
        image=body.image or "",
        notice_s=body.notice_s,
        project=project,
    )
