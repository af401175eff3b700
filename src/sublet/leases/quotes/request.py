"""A customer's request for a quote, before anything is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sublet.leases.model import FORECAST_WINDOW_S_MAX, WINDOW_S_MIN, OnFailure, OnReclaim, checked_ahead, checked_window
from sublet.surplus.deadlines.kinds import ORDER_HOURS_MAX, WITHIN_HOURS_MAX
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

SERVICE_S_MAX = ORDER_HOURS_MAX * 3600
DEADLINE_S_MAX = WITHIN_HOURS_MAX * 3600


def refuse_too_long(named: ServiceClass, window: Window) -> None:
    """Raises InvalidInputError for a window of a class that can be taken back, if it is longer than forecasts reach."""
    if named.notice_s is not None and window.seconds > FORECAST_WINDOW_S_MAX:
        raise InvalidInputError(
            f"a lease that can be taken back lasts at most {FORECAST_WINDOW_S_MAX // 86_400} days; request a shorter one, or a "
            "firm one from a block"
        )


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """A customer's request: `pool` (id or name) or any pool of `generation`, from `start` (now if None) until `end` or for
    `duration_s`. Without a class, the operator's default class applies."""

    accelerators: int
    class_name: str
    end: datetime | None = None
    start: datetime | None = None
    pool: str | None = None
    generation: str | None = None
    duration_s: int | None = None
    on_failure: OnFailure = OnFailure.SHRINK
    on_reclaim: OnReclaim = OnReclaim.END
    network: tuple[str, ...] = ()
    """Names of the allow lists whose hosts the lease may reach; without one, none."""
    service_s: int | None = None
    """Seconds of service of each accelerator, done by `end`: for a class that is sold by a deadline."""
    volumes: tuple[str, ...] = ()
    """Ids or names of the organization's volumes that it is to have."""
    image: str = ""
    """Id or name of the image that it runs on; the machine's own programs without one."""
    job: bool = False
    """It is to run a command by itself."""

    project: str = ""
    """The project of the key that asks; empty for none."""

    notice_s: int | None = None
    """The notice that the tenant wants, if it is longer than the class's."""

    finish_by: datetime | None = None
    """The window of `duration_s` may be anywhere from `start` until then: the earliest that can be sold is."""

    @property
    def needs(self) -> frozenset[str]:
        """The features that the lease's backend must have, by their names in `ports.Features`."""
        asked = {
            "network": self.network,
            "volumes": self.volumes,
            "images": bool(self.image),
            "pauses": self.service_s is not None,
            "jobs": self.job,
            "moves": self.on_reclaim is OnReclaim.MOVE,
        }
        return frozenset(name for name, things in asked.items() if things)

    def starts(self, now: datetime) -> tuple[datetime, datetime, int]:
        """The first and last possible start of a request with `finish_by`, and its duration in seconds. Raises
        InvalidInputError."""
        if self.finish_by is None or self.duration_s is None or self.end is not None:
            raise InvalidInputError("finish_by is for a window of any start: send duration_s with it, and no end")
        first = max(now, checked_ahead(self.start or now, now))
        last = self.finish_by - timedelta(seconds=self.duration_s)
        if last < first:
            raise InvalidInputError(
                f"{self.duration_s} seconds don't fit between {format_time(first)} and {format_time(self.finish_by)}",
                field="finish_by",
            )
        checked_window(Window.starting(first, self.duration_s), now)
        checked_ahead(last, now)
        return first, last, self.duration_s

    def span(self, now: datetime) -> Window:
        """The requested window; with `finish_by`, the earliest one. Raises InvalidInputError."""
        if self.finish_by is None:
            return self.window(now)
        first, _, length = self.starts(now)
        return Window.starting(first, length)

    def window(self, now: datetime) -> Window:
        """The requested window. Raises InvalidInputError if it has neither or both of end and duration, or can't be sold."""
        start = checked_ahead(self.start or now, now)
        if (self.end is None) == (self.duration_s is None):
            raise InvalidInputError("send either end or duration_s")
        window = Window(start, self.end) if self.end else Window.starting(start, self.duration_s or 0)
        return checked_window(window, now)

    def deadline_window(self, now: datetime) -> tuple[Window, int]:
        """The window from now to the deadline, and the seconds of service by its end. Raises InvalidInputError if that can't be
        sold at all; hours that don't fit are refused by the pool, which knows the earliest deadline."""
        if self.service_s is None or self.end is None:
            raise InvalidInputError(
                f"class {self.class_name} is sold as hours of service by a deadline: send service_s and end"
            )
        if self.start is not None or self.duration_s is not None or self.finish_by is not None:
            raise InvalidInputError(
                f"class {self.class_name} has no start, duration_s or finish_by: it runs when accelerators are idle, before its end"
            )
        if not WINDOW_S_MIN <= self.service_s <= SERVICE_S_MAX:
            raise InvalidInputError(
                f"service_s is {self.service_s}; it must be {WINDOW_S_MIN} to {SERVICE_S_MAX} seconds",
                field="service_s",
            )
        if self.end <= now:
            raise InvalidInputError(
                f"the deadline {format_time(self.end)} is in the past; the time is {format_time(now)}", field="end"
            )
        if self.end > now + timedelta(seconds=DEADLINE_S_MAX):
            raise InvalidInputError(
                f"the deadline {format_time(self.end)} is more than {DEADLINE_S_MAX // 86_400} days ahead; choose an earlier one",
                field="end",
            )
        return Window(now, self.end), self.service_s

    def as_dict(self) -> dict[str, Any]:
        # Fields that are not set are left out, so that a request stored by an older version stays equal.
        beyond = {"network": list(self.network), "volumes": list(self.volumes)}
        more: dict[str, Any] = {name: things for name, things in beyond.items() if things}
        if self.job:
            more["job"] = True
        if self.image:
            more["image"] = self.image
        if self.project:
            more["project"] = self.project
        if self.service_s is not None:
            more["service_s"] = self.service_s
        if self.finish_by is not None:
            more["finish_by"] = format_time(self.finish_by)
        if self.notice_s is not None:
            more["notice_s"] = self.notice_s
        if self.on_reclaim is not OnReclaim.END:
            more["on_reclaim"] = self.on_reclaim.value
        return more | {
            "accelerators": self.accelerators,
            "class": self.class_name,
            "end": format_time(self.end) if self.end else None,
            "duration_s": self.duration_s,
            "start": format_time(self.start) if self.start else None,
            "pool": self.pool,
            "generation": self.generation,
            "on_failure": self.on_failure.value,
        }
