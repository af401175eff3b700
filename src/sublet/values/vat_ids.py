"""The check digits of VAT IDs: finds a number that was mistyped, not whether it was ever issued.

The rules are those that the member states published for the VIES service and the United Kingdom for its own; numbers of countries
whose rule is not here pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_Digits = Sequence[int]
_OF_THE_STATE = re.compile(r"(?:GB|XI)(?:GD[0-4]|HA[5-9])\d\d", re.ASCII)
"""British departments and health authorities, whose numbers have no check digit."""


def is_vat_id(text: str) -> bool:
    """Whether a VAT ID with its prefix, without spaces, has the length and the check digits of its country."""
    rule = _RULES.get(text[:2])
    if rule is None or (text[:2] == "FR" and not text[2:4].isdecimal()):
        # Of French keys with letters, no rule was published.
        return True
    if _OF_THE_STATE.fullmatch(text):
        return True
    pattern, holds = rule
    match = re.fullmatch(pattern, text[2:], re.ASCII)
    return match is not None and holds([int(digit) for digit in "".join(match.groups())])


def _weighted(digits: _Digits, *weights: int) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))


def _number(digits: _Digits) -> int:
    return int("".join(map(str, digits)))


def _luhn(digits: _Digits) -> bool:
    """ISO/IEC 7812-1: from the right, each second digit doubled."""
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0


def _mod_11_10(digits: _Digits) -> bool:
    """ISO/IEC 7064, MOD 11,10."""
    product = 10
    for digit in digits[:-1]:
        product = ((product + digit) % 10 or 10) * 2 % 11
    return (product + digits[-1]) % 10 == 1


def _austria(digits: _Digits) -> bool:
    odd = sum(digits[0:7:2])
    even = sum(sum(divmod(2 * digit, 10)) for digit in digits[1:6:2])
    return (10 - (odd + even + 4) % 10) % 10 == digits[7]


def _belgium(digits: _Digits) -> bool:
    return (_number(digits[:8]) + _number(digits[8:])) % 97 == 0


def _france(digits: _Digits) -> bool:
    company = digits[2:]
    monaco = not any(company[:3])
    return (monaco or _luhn(company)) and (12 + 3 * (_number(company) % 97)) % 97 == _number(digits[:2])


def _greece(digits: _Digits) -> bool:
    return _weighted(digits, *(2**power for power in range(8, 0, -1))) % 11 % 10 == digits[8]


def _britain(digits: _Digits) -> bool:
    return (_weighted(digits, 8, 7, 6, 5, 4, 3, 2) + _number(digits[7:9])) % 97 in (0, 42, 55)


def _luxembourg(digits: _Digits) -> bool:
    return _number(digits[:6]) % 89 == _number(digits[6:])


def _netherlands(digits: _Digits) -> bool:
    """Of companies by their first nine digits, and of sole traders by all of it with letters as numbers from 10, ISO/IEC 7064."""
    if _weighted(digits, 9, 8, 7, 6, 5, 4, 3, 2) % 11 == digits[8]:
        return True
    whole = "".join(map(str, digits))
    return int(f"2321{whole[:9]}11{whole[9:]}") % 97 == 1


def _poland(digits: _Digits) -> bool:
    return _weighted(digits, 6, 5, 7, 2, 3, 4, 5, 6, 7) % 11 == digits[9]


def _portugal(digits: _Digits) -> bool:
    return (11 - _weighted(digits, 9, 8, 7, 6, 5, 4, 3, 2) % 11) % 11 % 10 == digits[8]


def _sweden(digits: _Digits) -> bool:
    return _luhn(digits[:10])


def _slovenia(digits: _Digits) -> bool:
    return -_weighted(digits, 8, 7, 6, 5, 4, 3, 2) % 11 % 10 == digits[7]


def _sum(modulus: int, *weights: int) -> Callable[[_Digits], bool]:
    return lambda digits: _weighted(digits, *weights) % modulus == 0


_RULES: dict[str, tuple[str, Callable[[_Digits], bool]]] = {
    "AT": (r"U(\d{8})", _austria),
    "BE": (r"([01]\d{9})", _belgium),
    "DE": (r"([1-9]\d{8})", _mod_11_10),
    "DK": (r"(\d{8})", _sum(11, 2, 7, 6, 5, 4, 3, 2, 1)),
    "EE": (r"(\d{9})", _sum(10, 3, 7, 1, 3, 7, 1, 3, 7, 1)),
    "EL": (r"(\d{9})", _greece),
    "FI": (r"(\d{8})", _sum(11, 7, 9, 10, 5, 8, 4, 2, 1)),
    "FR": (r"(\d{11})", _france),
    "GB": (r"(\d{9})(?:\d{3})?", _britain),
    "XI": (r"(\d{9})(?:\d{3})?", _britain),
    "HR": (r"(\d{11})", _mod_11_10),
    "HU": (r"(\d{8})", _sum(10, 9, 7, 3, 1, 9, 7, 3, 1)),
    "IT": (r"(\d{11})", _luhn),
    "LU": (r"(\d{8})", _luxembourg),
    "MT": (r"(\d{8})", _sum(37, 3, 4, 6, 7, 8, 9, 10, 1)),
    "NL": (r"(\d{9})B(\d{2})", _netherlands),
    "PL": (r"(\d{10})", _poland),
    "PT": (r"([1-9]\d{8})", _portugal),
    "SE": (r"(\d{12})", _sweden),
    "SI": (r"([1-9]\d{7})", _slovenia),
}
