"""A world of leases on a simulated backend."""

from __future__ import annotations

import pytest
from tests.leases.world import World

from sublet.store import Store
from sublet.values.clock import SimulatedClock


@pytest.fixture
def world(store: Store, clock: SimulatedClock) -> World:
    return World(store, clock)
