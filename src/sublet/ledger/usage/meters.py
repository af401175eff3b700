"""What can be metered: each meter's unit, its smallest step, and the most that one event may carry."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from sublet.values.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Meter:
    """A thing that is counted. Quantities are stored as whole steps of `10**-decimals` units."""

    name: str
    unit: str
    product: str
    decimals: int
    quantity_max: int
    """In units; the most that one event may carry."""
    dimensions: tuple[str, ...]

    @property
    def steps_per_unit(self) -> int:
        steps: int = 10**self.decimals
        return steps

    def steps(self, quantity: Decimal | int | str) -> int:
        """`quantity` in units as whole steps. Raises InvalidInputError for what is negative, not finite, too fine or
        beyond the limit."""
        if type(quantity) is int:
            steps = quantity * self.steps_per_unit
        else:
            steps = self._from_decimal(quantity)
        if steps < 0:
            raise InvalidInputError(f"quantity {quantity} is negative; cancel or correct the original event instead")
        if steps > self.quantity_max * self.steps_per_unit:
            raise InvalidInputError(
                f"quantity {quantity} exceeds the maximum of {self.quantity_max} {self.unit} per event; split it into several events"
            )
        return steps

    def _from_decimal(self, quantity: Decimal | int | str) -> int:
        if not isinstance(quantity, Decimal | str):
            raise InvalidInputError(f"quantity {quantity!r} is a binary fraction; send an integer or a decimal string")
        try:
            value = Decimal(quantity)
        except (InvalidOperation, ValueError, TypeError) as error:
            raise InvalidInputError(f"quantity {str(quantity)[:40]!r} is not a number") from error
        if not value.is_finite():
            raise InvalidInputError(f"quantity {value} is not a finite number; send the quantity used")
        if value.adjusted() > 30:
            raise InvalidInputError(
                f"quantity {value} exceeds the maximum of {self.quantity_max} {self.unit} per event"
            )
        # By digits and not by arithmetic: a number like 1e-999999999 is short to write and endless to work out.
        _, digits, exponent = value.as_tuple()
        shift = int(exponent) + self.decimals
        if shift < 0 and any(digits[shift:]):
            raise InvalidInputError(
                f"quantity {str(value)[:40]} is more precise than {self.name} is metered; send {self._fineness}"
            )
        kept = digits[:shift] if shift < 0 else digits
        steps: int = int("".join(map(str, kept)) or "0") * 10 ** max(shift, 0)
        return -steps if value.is_signed() else steps

    @property
    def _fineness(self) -> str:
        return f"at most {self.decimals} decimals" if self.decimals else "a whole number"

    def units(self, steps: int) -> Decimal:
        """Whole steps as a decimal number of units, exact."""
        if not self.decimals:
            return Decimal(steps)
        sign = "-" if steps < 0 else ""
        whole, rest = divmod(abs(steps), self.steps_per_unit)
        return Decimal(f"{sign}{whole}.{rest:0{self.decimals}d}")


# The most of an event times the dearest price is what one posting must hold. In a currency of small units, like IDR, a
# posting holds some 500,000 USD: so these are as low as any honest event allows.
_TOKENS_MAX = 10**10

METERS: dict[str, Meter] = {
    meter.name: meter
    for meter in (
        Meter("accelerator.seconds", "Seconds", "leases", 3, 10**8, ("pool", "generation", "class", "site")),
        Meter("lease.fees", "Fees", "leases", 0, 1, ("pool", "generation", "class", "site")),
        Meter("storage.mib_hours", "MiB-Hours", "leases", 0, 10**9, ("pool", "site")),
        Meter("tokens.input", "Tokens", "models", 0, _TOKENS_MAX, ("model", "tier")),
        Meter("tokens.input_cached", "Tokens", "models", 0, _TOKENS_MAX, ("model", "tier")),
        Meter("tokens.output", "Tokens", "models", 0, _TOKENS_MAX, ("model", "tier")),
        Meter("tokens.reasoning", "Tokens", "models", 0, _TOKENS_MAX, ("model", "tier")),
        Meter("images", "Images", "models", 0, 10**7, ("model", "tier")),
        Meter("audio.seconds", "Seconds", "models", 3, 10**8, ("model", "tier")),
        Meter("requests", "Requests", "models", 0, 10**8, ("model", "tier")),
        Meter("energy.wh", "Watt-Hours", "energy", 3, 10**10, ("pool", "generation", "site", "model")),
    )
}


def meter_named(name: str) -> Meter:
    """Raises InvalidInputError for a meter that Sublet does not know."""
    try:
        return METERS[name]
    except (KeyError, TypeError) as error:
        raise InvalidInputError(f"meter {name!r} is not known; use one of {', '.join(METERS)}") from error
