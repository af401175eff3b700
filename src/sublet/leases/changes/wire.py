"""Wire types of lease changes."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Price, Whole, answer, body


@body
class NewLeaseChange:
    """A change of a lease: another `end`, fewer `accelerators`, or another `project` of the organization (empty for none).
    Accelerators are given back at `at` (now by default): those in `devices`, or the last ones.

    With `max_price_per_accelerator_hour`, an extension at a higher price is refused.
    """

    end: Moment | None = None
    accelerators: Annotated[Whole, Interval(ge=1, le=4096)] | None = None
    at: Moment | None = None
    devices: Annotated[list[Annotated[str, MaxLen(200), LINE]], MaxLen(4096)] | None = None
    project: Annotated[str, MaxLen(80), LINE] | None = None
    max_price_per_accelerator_hour: Price | None = None


@body
class NewLabel:
    """A label: a key, unique within the lease, and a value. Both may be in any script."""

    key: Annotated[str, MinLen(1), MaxLen(40), LINE]
    value: Annotated[str, MaxLen(80), LINE] = ""


@body
class NewLeaseName:
    """The name of a lease (empty for none) and all of its labels. Fields that are left out stay the same."""

    name: Annotated[str, MaxLen(80), LINE] | None = None
    labels: Annotated[list[NewLabel], MaxLen(16)] | None = None


@answer
class LeaseName:
    """The name and labels of a lease."""

    lease_id: str
    name: str
    labels: dict[str, str]


@answer
class LeaseChange:
    """A change of a lease and its price: `costs` for added time, `saves` for time that is given back, and the `fee` for giving
    it back. If `restarts` is true, running programs are stopped, but the home directory is kept. Amounts are exact decimals as
    text."""

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
    """The price of time that is given back. It is free if the time begins at least `free_s` seconds later, or else costs
    `ratio` of its price. Until `free_until`, the whole lease can be given back for free; null means always."""

    free_s: int
    ratio: str
    free_until: Moment | None
    sentence: str


@answer
class PriceStep:
    """The price per accelerator-hour from `start` on."""

    start: Moment
    price_per_accelerator_hour: str


@answer
class HandingBack:
    """Accelerators that a lease gives back at `at`."""

    at: Moment
    accelerators: int
    devices: list[str]
