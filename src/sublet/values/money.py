"""Exact money: whole billionths of a currency's major unit. No float comes near it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from sublet.values.errors import InvalidInputError

NANO = 1_000_000_000
"""Nano-units in one major unit (one dollar is 1e9 of them)."""

AMOUNT_DIGITS_MAX = 30
"""Digits before the decimal point that an amount read from outside may have: far beyond any total, and quick to refuse."""

POSTING_NANO_MAX = 2**63 - 1
"""The largest single amount that a posting can hold: about 9.2 bn major units."""

# ISO 4217 minor-unit digits of the currencies that are not 2.
_DIGITS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}
# ISO 4217 without funds, metals and test codes; BGN until the last bill in it is paid.
_KNOWN = frozenset(
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY "
    "COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS "
    "INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP "
    "MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR "
    "SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV "
    "WST XAF XCD XOF XPF YER ZAR ZMW ZWG".split()
)


class CurrencyMismatchError(InvalidInputError):
    """Amounts in different currencies cannot be combined; bill each organization in one currency."""

    code = "currency_mismatch"


def currency_digits(currency: str) -> int:
    """ISO 4217 minor-unit digits of `currency`. Raises InvalidInputError for a code that Sublet does not know."""
    if currency not in _KNOWN:
        raise InvalidInputError(f"currency {currency!r} is not known; use an ISO 4217 code such as USD or EUR")
    return _DIGITS.get(currency, 2)


@dataclass(frozen=True, slots=True)
class Money:
    """`nano` billionths of `currency`'s major unit; Python's integers, so a total has no upper limit."""

    nano: int
    currency: str = "USD"

    def __post_init__(self) -> None:
        if type(self.nano) is not int:
            raise TypeError(f"nano must be an int, not {type(self.nano).__name__}")

    @classmethod
    def of(cls, amount: Decimal | int | str, currency: str = "USD") -> Money:
        """`amount` in major units, e.g. `Money.of("1.25")`. Raises InvalidInputError if it needs more than 9 decimals."""
        return cls(nano_from_decimal(amount), currency)

    @property
    def amount(self) -> Decimal:
        """In major units, exact."""
        return decimal_from_nano(self.nano)

    def rounded(self) -> Money:
        """To the currency's own digits, half to even: what an invoice does, once."""
        step = 10 ** (9 - currency_digits(self.currency))
        whole, rest = divmod(self.nano, step)
        if rest * 2 > step or (rest * 2 == step and whole % 2 == 1):
            whole += 1
        return Money(whole * step, self.currency)

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.nano + other.nano, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.nano - other.nano, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.nano, self.currency)

    def __lt__(self, other: Money) -> bool:
        self._same(other)
        return self.nano < other.nano

    def __str__(self) -> str:
        """Human form: at least the currency's digits, more only where the amount has them."""
        text = format(self.amount, "f")
        whole, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0").ljust(currency_digits(self.currency), "0")
        return f"{whole}{'.' + fraction if fraction else ''} {self.currency}"

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise CurrencyMismatchError(f"{self.currency} and {other.currency} can't be combined")


def nano_from_decimal(amount: Decimal | int | str) -> int:
    """Major units to nano-units, exact or refused. Raises InvalidInputError."""
    if isinstance(amount, float):
        raise TypeError("money is never a float")
    try:
        value = Decimal(amount)
    except InvalidOperation as error:
        raise InvalidInputError(f"{str(amount)[:60]!r} is not an amount; use the form 1.25") from error
    if not value.is_finite():
        raise InvalidInputError(f"{str(amount)[:60]!r} is not a finite amount; use the form 1.25")
    if value.adjusted() >= AMOUNT_DIGITS_MAX:
        raise InvalidInputError(f"the amount has more than {AMOUNT_DIGITS_MAX} digits before its decimal point")
    # By digits and not by arithmetic: a Decimal context would round what does not fit its precision, unseen.
    sign, digits, exponent = value.as_tuple()
    shift = int(exponent) + 9
    if shift < 0 and any(digits[shift:]):
        raise InvalidInputError(f"{str(value)[:60]} has more than nine decimals; the smallest amount is 0.000000001")
    kept = digits[:shift] if shift < 0 else digits
    nano: int = int("".join(map(str, kept)) or "0") * 10 ** max(shift, 0)
    return -nano if sign else nano


def decimal_from_nano(nano: int) -> Decimal:
    """Nano-units to major units, exact."""
    sign = "-" if nano < 0 else ""
    whole, rest = divmod(abs(nano), NANO)
    return Decimal(f"{sign}{whole}.{rest:09d}")


def text_from_nano(nano: int) -> str:
    """Nano-units as plain decimal text in major units, never in scientific notation: for JSON."""
    return format(decimal_from_nano(nano), "f")


def price_from_nano(nano: int) -> str:
    """The same for people: every digit that says something, and at least two decimals."""
    whole, _, rest = text_from_nano(nano).partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"
