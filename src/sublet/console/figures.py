"""How the console writes numbers, times and money: short, aligned, and never rounded into a lie."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sublet.values.money import Money, currency_digits

_TINY_DIGITS = 3
PERCENT_MAX = 10_000
_MOMENT = re.compile(r"\b(?P<day>\d{4}-\d\d-\d\d)T(?P<minute>\d\d:\d\d)(?P<second>:\d\d)(\.\d+)?Z")


def count(value: float | None) -> str:
    """Accelerators and the like: thousands apart, a decimal only where there is one; an em dash where unknown."""
    if value is None:
        return "—"
    rounded = round(value, 1)
    return f"{int(rounded):,}" if rounded == int(rounded) else f"{rounded:,.1f}"


def rate(value: float | None) -> str:
    """A rate that was measured: what is there, however little, is not written as 0."""
    return "< 0.1" if value is not None and 0 < value < 0.05 else count(value)


def axis_count(value: float, top: float | None = None) -> str:
    """The same, short enough for an axis. Ticks of one axis share the unit that suits its `top`."""
    if not value:
        return "0"
    for limit, unit in ((1_000_000, "M"), (10_000, "k")):
        if max(value, top or 0) >= limit:
            divided = value / (1_000_000 if unit == "M" else 1_000)
            return f"{divided:.3g}{unit}" if divided < 100 else f"{divided:,.0f}{unit}"
    return count(value)


def money(amount: Money) -> str:
    """In the currency's digits; an amount that these would show as zero keeps three significant ones."""
    digits = currency_digits(amount.currency)
    shown = amount.rounded().amount
    if shown or not amount.nano:
        return f"{shown:,.{digits}f}"
    exact = amount.amount
    places = min(9, -exact.adjusted() + _TINY_DIGITS - 1)
    return f"{exact.quantize(Decimal(1).scaleb(-places)):f}".rstrip("0")


def amount(text: str, currency: str) -> str:
    """The same for an amount that a document states as text."""
    return money(Money.of(text, currency))


def quantity(text: str) -> str:
    """A quantity that a document states as text, without zeros that say nothing: 25 for `25.000`."""
    exact = Decimal(text)
    return f"{exact.quantize(Decimal(1)) if exact == exact.to_integral_value() else exact.normalize():,f}"


def share(part: Money, parts: tuple[tuple[str, Money], ...]) -> float:
    """`part` as a percentage of all positive `parts`, for the length of a bar."""
    whole = sum(max(0, item.nano) for _, item in parts)
    return max(0, part.nano) * 1000 // whole / 10 if whole else 0.0


def per_cent(part: int, whole: int) -> str:
    """`part` of `whole` as a percentage, rounded down: nothing that is left is written as nothing, and what is there is not 0."""
    if part <= 0:
        return "0 %"
    if whole <= 0:
        return "over"
    tenths = 1000 * part // whole
    if not tenths:
        return "< 0.1 %"
    if tenths > 10 * PERCENT_MAX:
        return f"> {PERCENT_MAX:,} %"
    return f"{tenths // 10:,} %" if tenths >= 1000 or not tenths % 10 else f"{tenths // 10}.{tenths % 10} %"


def duration(seconds: float) -> str:
    """The two largest units: `3 d 04 h`, `2 h 05 min`, `4 min 31 s`, `12 s`; `over` once nothing is left."""
    left = int(seconds)
    if left <= 0:
        return "over"
    minutes, s = divmod(left, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days:,} d {h:02d} h"
    if hours:
        return f"{h} h {m:02d} min"
    return f"{m} min {s:02d} s" if minutes else f"{s} s"


def period(seconds: int) -> str:
    """How a window of measurement is called: `minute`, `5 minutes`, `hour`, `90 s`."""
    for unit_s, name in ((3600, "hour"), (60, "minute")):
        if seconds % unit_s == 0:
            many = seconds // unit_s
            return name if many == 1 else f"{many} {name}s"
    return f"{seconds} s"


def moment(at: datetime, as_of: datetime) -> str:
    """The time of day in UTC, with the date where it is another day than `as_of`, the year where it is another year."""
    here, now = at.astimezone(UTC), as_of.astimezone(UTC)
    if here.date() == now.date():
        return f"{here:%H:%M:%S}"
    return f"{here.day} {here:%b %H:%M}" if here.year == now.year else f"{here.day} {here:%b %Y}"


def span_text(start: datetime, end: datetime) -> str:
    """A stretch of time in words for a chart: `21 Nov 14:05 to 22 Nov 20:05 UTC`."""
    year = " %Y" if end - start > timedelta(days=200) else ""
    return f"{start.day} {start.strftime(f'%b{year} %H:%M')} to {end.day} {end.strftime(f'%b{year} %H:%M')} UTC"


def sentence(text: str) -> str:
    """A sentence with its moments as `2026-11-30 07:45 UTC`, to the second where they are no whole minutes."""
    return _MOMENT.sub(lambda found: f"{found['day']} {found['minute']}{found['second'].replace(':00', '')} UTC", text)


def tone(state: str) -> str:
    """The color family of a state: good, busy, bad or quiet. The word itself always stands beside the color."""
    return _TONES.get(state, "quiet")


_TONES = {
    **dict.fromkeys(("active", "ready", "ok", "available", "delivered", "enabled"), "good"),
    **dict.fromkeys(("preparing", "notice", "ending", "starting", "draining", "degraded", "waiting"), "busy"),
    **dict.fromkeys(("failed", "down", "quarantined", "lost", "unavailable", "failing", "given_up"), "bad"),
}
