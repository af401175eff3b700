"""The classes of service as settings: `[classes.NAME]`, of which some are shipped and may be changed key by key."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import Field

from sublet.config.pools import Section
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import NAME, ORDERS_DEFAULT, SHIPPED, ServiceClass, ServiceClasses, TakeBack


class ClassOfService(Section):
    """A class of service: how it is taken back, at what risk and price it is sold, and the credit when it is reclaimed. The
    shipped classes are `firm`, `notice`, `deadline` and `spot`; a section of another name adds a class."""

    take_back: TakeBack = Field(description="how the owner takes it back: never, notice, at_once, or pause")
    strictness: int = Field(
        ge=1,
        le=1000,
        description="place in the order: the class with the lowest is reclaimed first; each class has a place of its own",
    )
    notice_s: int | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description='seconds between the owner\'s request and the deadline; required if take_back is "notice" or "pause"',
    )
    broken_per_1000_max: float = Field(
        default=10.0,
        gt=0,
        le=1000,
        description="windows per 1,000 that may be broken or get less than their notice; a stricter class may not have more",
    )
    price_ratio: Decimal = Field(ge=0, le=1000, description="factor on the pool's price")
    credit_ratio: Decimal = Field(
        default=Decimal(0),
        ge=0,
        le=10,
        description="credit at reclaim, as a share of the undelivered rest; of a class that is never taken back: the penalty "
        "when it is broken by force; of one that is paused: the credit when it is late",
    )
    free_s: int = Field(
        default=0, ge=0, le=86_400, description="a lease that is reclaimed within this many seconds costs nothing"
    )
    give_back_ratio: Decimal = Field(
        default=Decimal(0),
        ge=0,
        le=1,
        description="what a tenant pays for time that it gives back (a canceled, shortened or smaller lease), as a share of its price",
    )
    give_back_free_s: int = Field(
        default=0,
        ge=0,
        le=7_776_000,
        description="time that begins so many seconds or more from now is given back for nothing",
    )
    longest_notice_s: int = Field(
        default=0,
        ge=0,
        le=86_400,
        description='longest notice that a tenant may ask for, if take_back is "notice"; not above notice_s: none of its own',
    )
    longer_notice_ratio: Decimal = Field(
        default=Decimal(0),
        ge=0,
        le=10,
        description="what each further hour of notice that a tenant asks for adds to the price, as a share of it",
    )
    sell: bool = Field(default=True, description="whether the class is on sale")
    long_share_max: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="of a class that is never taken back: share of what could be sold for an hour that may be sold for longer "
        "windows",
    )
    long_windows: bool = Field(
        default=False,
        description="of a class that is never taken back: whether windows of 12 hours and more are sold by a forecast, too; they "
        "fail on fleets that nobody has measured, and longer work is for blocks and deadlines",
    )
    orders: tuple[tuple[int, int], ...] = Field(
        default=ORDERS_DEFAULT,
        description="of a class that is paused: pairs of hours of service and the hours within which they are done",
    )
    description: str = Field(default="", max_length=200, description="what customers are told of it, in one sentence")


def with_shipped(given: Any) -> Any:
    """The sections of the settings, each laid over the shipped class of its name."""
    if not isinstance(given, Mapping):
        return given
    laid: dict[str, Any] = {name: _section_of(shipped) for name, shipped in SHIPPED.items()}
    for name, section in given.items():
        if not NAME.fullmatch(str(name)):
            raise ValueError(f"{name!r} is not a valid class name; use 1 to 16 lowercase letters, digits, - and _")
        if isinstance(section, Mapping):
            laid[name] = {**laid.get(name, {}), **section}
        else:
            laid[name] = section
    return laid


def table_of(sections: Mapping[str, ClassOfService]) -> ServiceClasses:
    """The table that the settings make. Raises InvalidInputError."""
    return ServiceClasses(_class_of(name, section) for name, section in sections.items())


def _class_of(name: str, section: ClassOfService) -> ServiceClass:
    notice_s = section.notice_s
    if section.take_back is TakeBack.NEVER:
        if notice_s:
            raise InvalidInputError(
                f"class {name} is never taken back, so notice_s does not apply; remove it, or change take_back"
            )
        notice_s = None
    elif section.take_back is TakeBack.AT_ONCE:
        notice_s = notice_s or 0
    elif notice_s is None:
        raise InvalidInputError(f"class {name} is taken back with notice; set its notice_s")
    values = section.model_dump(exclude={"take_back", "notice_s"})
    return ServiceClass(name=name, take_back=section.take_back, notice_s=notice_s, **values)


def _section_of(shipped: ServiceClass) -> dict[str, Any]:
    """A class as the settings would write it."""
    keys = [key for key in ClassOfService.model_fields if getattr(shipped, key) is not None]
    return {key: getattr(shipped, key) for key in keys}
