"""What a client is told of the limits that cover its request."""

from __future__ import annotations

from collections.abc import Mapping

from sublet.gateway.limits.orders import INPUT, OUTPUT, REQUESTS
from sublet.gateway.model import KeyGrant
from sublet.gateway.surfaces.surface import Allowance, TokenAllowance

MINUTE_S = 60


def told(standing: Mapping[str, tuple[int, int]], grant: KeyGrant, by_settings: Allowance, now_us: int) -> Allowance:
    """The tightest of the shared limits (`standing`, by kind: their size and what is left) and of the settings' limit, where
    that holds. A shared limit is all there again with the next minute."""
    now_s = now_us // 1_000_000
    reset_s = MINUTE_S - now_s % MINUTE_S
    found = by_settings
    requests = standing.get(REQUESTS)
    if requests is not None and (not grant.default_rate or requests[1] < by_settings.remaining):
        found = Allowance(*requests, reset_s, now_s + reset_s)
    tokens = {
        kind: TokenAllowance(*standing[kind], reset_s, now_s + reset_s) for kind in (INPUT, OUTPUT) if kind in standing
    }
    return found._replace(input=tokens.get(INPUT), output=tokens.get(OUTPUT))
