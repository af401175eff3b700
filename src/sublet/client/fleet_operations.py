"""The operations of pools, accelerators and nodes."""

from __future__ import annotations

from sublet.client.operation import PAGE, Operation

FLEET: tuple[Operation, ...] = (
    Operation("fleet.list_pools", "GET", "/v1/pools", query=PAGE, answer="fleet:PoolList", items="pools"),
    Operation("fleet.show_pool", "GET", "/v1/pools/{pool}", answer="fleet:Pool"),
    Operation("fleet.calendar", "GET", "/v1/calendar", query=("pool", "since", "until"), answer="fleet:PoolCalendar"),
    Operation("fleet.list_units", "GET", "/v1/pools/{pool}/units", query=PAGE, answer="fleet:UnitList", items="units"),
    Operation("fleet.show_unit", "GET", "/v1/units/{unit_id}", answer="fleet:Unit"),
    Operation("fleet.forget_node", "DELETE", "/v1/nodes/{node}", answer="none"),
    Operation(
        "fleet.set_service", "PUT", "/v1/units/{unit_id}/service", body="fleet:UnitService", answer="none", edits=True
    ),
    Operation("fleet.list_nodes", "GET", "/v1/nodes", query=PAGE, answer="fleet:NodeList", items="nodes"),
)
