"""What is asked for is in the quote, and what is in the quote is in the lease, however it is sold."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from tests.leases.world import CUSTOMER, KEY, World

from sublet.leases import store as sql
from sublet.leases.model import Lease, OnFailure, Quote
from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.volumes.service import NewVolume
from sublet.values.egress import EgressPolicy

_OF_ITS_OWN = {"id", "created_at", "window"}
PROMISED = sorted(({item.name for item in fields(Quote)} & {item.name for item in fields(Lease)}) - _OF_ITS_OWN)
"""All that a quote and a lease both have; a new one is checked by itself."""


@pytest.fixture
def request_of(world: World) -> dict[str, QuoteRequest]:
    """Requests that ask for everything which can be asked for, by how they are sold."""
    world.egress = EgressPolicy(allowed=frozenset({"huggingface"}))
    world.restart()
    world.leases.volumes.create(CUSTOMER, NewVolume("data", 100, world.pool.name))
    world.leases.tick()
    asked = {"window": world.request(2), "deadline": world.order_request(count=2)}
    return {
        sold_by: replace(request, network=("huggingface",), volumes=("data",), on_failure=OnFailure.REPLACE)
        for sold_by, request in asked.items()
    }


@pytest.mark.parametrize("sold_by", ["window", "deadline"])
def test_whatever_a_quote_promises_is_in_the_lease_however_it_is_sold(
    world: World, request_of: dict[str, QuoteRequest], sold_by: str
) -> None:
    request = request_of[sold_by]
    quote = world.leases.quote(CUSTOMER, request)
    assert (quote.network, [name for _, name in quote.volumes]) == (("huggingface",), ["data"])
    assert (quote.accelerators, quote.service_s, quote.on_failure) == (2, request.service_s, OnFailure.REPLACE)
    with world.store.read() as connection:
        assert sql.quote(connection, quote.id, CUSTOMER) == quote
    lease = world.leases.accept(CUSTOMER, quote.id, [KEY])
    assert {"network", "volumes", "service_s", "price_nano", "credit_ratio", "free_s", "block_id"} <= set(PROMISED)
    for name in PROMISED:
        assert getattr(lease, name) == getattr(quote, name), name
    assert world.lease(lease) == lease
    assert lease.window.end == quote.window.end
    assert world.leases.volumes.volume("data", CUSTOMER).lease_id == lease.id
