"""Changes of leases as they cross the API."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Price, Whole, answer, body


@body
class NewLeaseChange:
    """One change of a lease: another `end`; fewer `accelerators` from `at` on (now if left out), without `devices` (the last ones if
    left out); or another `project` of the organization (empty for none).

    With `max_price_per_accelerator_hour`, an extension that costs more per accelerator-hour is refused.
    """

    end: Moment | None = None
    accelerators: Annotated[Whole, Interval(ge=1, le=4096)] | None = None
    at: Moment | None = None
    devices: Annotated[list[Annotated[str, MaxLen(200), LINE]], MaxLen(4096)] | None = None
    project: Annotated[str, MaxLen(80), LINE] | None = None
    max_price_per_accelerator_hour: Price | None = None


@body
class NewLabel:
    """One label: a key, which a lease has once, and its value, in any script."""

    key: Annotated[str, MinLen(1), MaxLen(40), LINE]
    value: Annotated[str, MaxLen(80), LINE] = ""


@body
class NewLeaseName:
    """What a lease is called: a name (empty for none) and all of its labels. What is left out stays as it is."""

    name: Annotated[str, MaxLen(80), LINE] | None = None
    labels: Annotated[list[NewLabel], MaxLen(16)] | None = None


@answer
class LeaseName:
    """A lease's name and labels."""

    lease_id: str
    name: str
    labels: dict[str, str]


@answer
class LeaseChange:
    """A change and what it comes to: the price of the time that comes (`costs`) and goes (`saves`), and the `fee` for giving it back.
    `restarts`: what runs on the lease ends then, and its home directory stays. Amounts are exact decimals as text."""

    kind: str
    lease_id: str
    accelerators: int
    start: Moment
    end: Moment
    at: Moment | None
    devices: list[str]
    project: str | None
    price_per_accelerator_hour: str
    costs: str
    saves: str
    fee: str
    currency: str
    restarts: bool
    sentence: str


@answer
class GiveBackRule:
    """What time that is given back costs: nothing if it begins `free_s` or more from then, else `ratio` of its price.
    `free_until`: until when all of it can be given back for nothing; null for always."""

    free_s: int
    ratio: str
    free_until: Moment | None
    sentence: str


@answer
class PriceStep:
    """From `start` on an accelerator-hour costs so much."""

    start: Moment
    price_per_accelerator_hour: str


@answer
class HandingBack:
    """Accelerators that a lease gives back at `at`."""

    at: Moment
    accelerators: int
    devices: list[str]
