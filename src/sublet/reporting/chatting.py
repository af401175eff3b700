"""What the console's playground needs of the models and the prices."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable

from sublet.accounts.people.playground import PlaygroundKeys
from sublet.console.playground import Playing, Tokens
from sublet.gateway.model import METER_INPUT, METER_INPUT_CACHED, METER_OUTPUT
from sublet.ledger.budgets.ceilings import Most
from sublet.tls.files import address
from sublet.values.money import Money
from sublet.wiring.system import Sublet

CAPABILITY = "chat"


def playing(system: Sublet) -> Playing:
    """The playground of that system."""
    gateway, files = system.settings.gateway, system.settings.tls.files
    local = address(gateway.local_address, gateway.port, secured=files is not None)
    keys = PlaygroundKeys(system.store, lambda: system.sealing)
    return Playing(
        keys.secret_of,
        lambda: chat_models(system),
        answer_cost(system),
        local,
        gateway.public_url or local,
        files.trust if files else ssl.create_default_context,
    )


def chat_models(system: Sublet) -> list[str]:
    """The public names under which a deployed model chats, those of routes first."""
    can = {row.entry.name for row in system.models.rows() if row.deployment and CAPABILITY in row.entry.capabilities}
    routed = [
        plan.route.name
        for plan in system.routes.all()
        if CAPABILITY in plan.capabilities and any(upstream.model in can for upstream in plan.route.upstreams)
    ]
    return [*routed, *sorted(can - set(routed))]


def answer_cost(system: Sublet) -> Callable[[str, str, Tokens], Money | None]:
    """What an answer costs an organization at the prices of now; at most, where the price depends on how much was used before.
    Raises SubletError where no price applies."""

    def cost(organization_id: str, model: str, used: Tokens) -> Money | None:
        dimensions = json.dumps({"model": model}, separators=(",", ":"), ensure_ascii=False)
        meters = ((METER_INPUT, used.input), (METER_INPUT_CACHED, used.input_cached), (METER_OUTPUT, used.output))
        usage = [Most((meter,), count, dimensions) for meter, count in meters if count]
        spending = system.ledger.spending
        with system.store.read() as connection:
            party = system.ledger.party(connection, organization_id)
            book = spending.book(connection)
            nano = spending.most(connection, book, organization_id, usage, system.clock.now())
        return Money(nano, party.currency)

    return cost
