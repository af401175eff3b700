"""A case's own formulas: arithmetic over named values, with the desk's formulas as functions.

Grammar: numbers, names (dotted; in backticks where they hold other characters), `+ - * / **`, brackets, and calls such
as `per_watt_year(price=ext.h100_spot, watts=par.watts_all_in.H100)`. A number may carry a unit: `0.5 [GW]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sublet.desk import capex, channels, earnings, glut, leasing, positioning, prices
from sublet.desk.errors import CalculationError, CaseError, nearest
from sublet.desk.formulas import FORMULAS
from sublet.desk.terms import Term, as_term, constant, greatest, least, names_in
from sublet.desk.units import NUMBER, parse_unit

FORMULA_MODULES = (prices, earnings, leasing, capex, channels, positioning, glut)
"""The modules whose formulas a case may call; naming them here is what loads them."""

NESTING_MAX = 60
LENGTH_MAX = 2000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)(?:\s*\[(?P<unit>[^\]]+)\])?"
    r"|(?P<name>[A-Za-z_]\w*(?:\.\w+)*)|`(?P<quoted>[^`]+)`|(?P<sign>\*\*|[-+*/(),=]))"
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    unit: str = ""


Rows = Callable[[str, Sequence[str]], None]
"""Checks that named capacity rows may be put together; called with the function's name and the rows' names."""


def calculate(text: str, value_of: Callable[[str], Term], check_rows: Rows) -> Term:
    """The Term of a formula. Raises CaseError that says what is wrong, and at which character."""
    if len(text) > LENGTH_MAX:
        raise CaseError(f"the formula has {len(text)} characters; split it into named steps of at most {LENGTH_MAX}")
    parser = _Parser(_tokens(text), value_of, check_rows)
    term = parser.sum(0)
    if parser.position < len(parser.tokens):
        raise CaseError(
            f"the formula goes on after its end with {parser.tokens[parser.position].text!r}; add an operator"
        )
    return term


def _tokens(text: str) -> list[_Token]:
    found, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise CaseError(f"character {position + 1} of the formula, {stripped[position]!r}, has no meaning there")
        kind = match.lastgroup or ""
        if match["number"] is not None:
            found.append(_Token("number", match["number"], match["unit"] or ""))
        elif match["sign"] is not None:
            found.append(_Token("sign", match["sign"]))
        else:
            found.append(_Token("name", match[kind]))
        position = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[_Token], value_of: Callable[[str], Term], check_rows: Rows) -> None:
        self.tokens, self.position = tokens, 0
        self._value_of, self._check_rows = value_of, check_rows

    def sum(self, depth: int) -> Term:
        if depth > NESTING_MAX:
            raise CaseError(f"the formula is nested more than {NESTING_MAX} deep; split it into named steps")
        term = self._product(depth)
        while (sign := self._take("+", "-")) is not None:
            right = self._product(depth)
            left, term = term, term + right if sign == "+" else term - right
            if sign == "+":
                self._check_sum(left, right)
        return term

    def _check_sum(self, left: Term, right: Term) -> None:
        for one in names_in(left):
            for other in names_in(right):
                self._check_rows("+", [one, other])

    def _product(self, depth: int) -> Term:
        term = self._signed(depth)
        while (sign := self._take("*", "/")) is not None:
            right = self._signed(depth)
            if sign == "/" and right.value == 0:
                raise CalculationError("the formula divides by zero; check the value after the last `/`")
            term = term * right if sign == "*" else term / right
        return term

    def _signed(self, depth: int) -> Term:
        if self._take("-") is not None:
            return -self._signed(depth + 1)
        term = self._atom(depth)
        return term ** self._signed(depth + 1) if self._take("**") is not None else term

    def _atom(self, depth: int) -> Term:
        token = self._next("a number, a name or a bracket")
        if token.kind == "number":
            return constant(float(token.text), parse_unit(token.unit) if token.unit else NUMBER)
        if token.kind == "name":
            return self._call(token.text, depth) if self._take("(") is not None else self._value_of(token.text)
        if token.text != "(":
            raise CaseError(f"the formula has {token.text!r} where a number, a name or a bracket belongs")
        term = self.sum(depth + 1)
        self._expect(")")
        return term

    def _call(self, function: str, depth: int) -> Term:
        positional: list[Term] = []
        named: dict[str, Term] = {}
        while self._take(")") is None:
            if positional or named:
                self._expect(",")
            following = self.tokens[self.position + 1 : self.position + 2]
            if following and following[0].text == "=":
                name = self._next("a parameter's name").text
                self._expect("=")
                named[name] = self.sum(depth + 1)
            else:
                positional.append(self.sum(depth + 1))
        return self._apply(function, positional, named)

    def _apply(self, function: str, positional: list[Term], named: dict[str, Term]) -> Term:
        if function in FORMULAS:
            return as_term(FORMULAS[function](*positional, **named))
        if function in ("min", "max", "sum", "total", "stock"):
            if named or not positional:
                raise CaseError(f"{function}() takes values without parameter names, and at least one")
            if function in ("total", "stock"):
                self._check_rows(function, [term.name for term in positional])
            result = positional[0]
            for term in positional[1:]:
                before = result
                result = {"min": least, "max": greatest}.get(function, lambda a, b: a + b)(result, term)
                if function in ("sum", "total", "stock"):
                    self._check_sum(before, term)
            return result
        raise CaseError(
            f"function {function!r} is not known; {nearest(function, [*FORMULAS, 'min', 'max', 'sum', 'total', 'stock'])}"
        )

    def _next(self, wanted: str) -> _Token:
        if self.position >= len(self.tokens):
            raise CaseError(f"the formula ends where {wanted} belongs")
        self.position += 1
        return self.tokens[self.position - 1]

    def _take(self, *signs: str) -> str | None:
        if self.position < len(self.tokens):
            token = self.tokens[self.position]
            if token.kind == "sign" and token.text in signs:
                self.position += 1
                return token.text
        return None

    def _expect(self, sign: str) -> None:
        token = self._next(repr(sign))
        if token.kind != "sign" or token.text != sign:
            raise CaseError(f"the formula has {token.text!r} where {sign!r} belongs")
