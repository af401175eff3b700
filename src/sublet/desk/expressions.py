"""A case's own formulas: arithmetic over named values, with the desk's formulas as functions.

Grammar: numbers, names (dotted; in backticks where they hold other characters), `+ - * / **`, brackets, and calls such
as `per_watt_year(price=ext.h100_spot, watts=par.watts_all_in.H100)`. A number may carry a unit: `0.5 [GW]`. A name may also be
a table's column or a series, which functions take whole and operators element by element. Comparisons stand in `if`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sublet.desk import capex, channels, earnings, glut, leasing, positioning, prices
from sublet.desk.errors import CalculationError, CaseError, nearest
from sublet.desk.formulas import FORMULAS
from sublet.desk.functions import FUNCTIONS, Argument, Rows, call, comparable
from sublet.desk.terms import COMPARISONS, Term, as_term, compared, constant, names_in, undefined_quotient
from sublet.desk.units import NUMBER, parse_unit
from sublet.desk.vectors import Operand, Vector, combined, spread, text_of

FORMULA_MODULES = (prices, earnings, leasing, capex, channels, positioning, glut)
"""The modules whose formulas a case may call; naming them here is what loads them."""

_LEDGER = ("total", "stock")
"""Sums of rows of the capacity ledger."""

NESTING_MAX = 60
LENGTH_MAX = 2000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)(?:\s*\[(?P<unit>[^\]]+)\])?"
    r"|(?P<name>[A-Za-z_]\w*(?:\.\w+)*)|`(?P<quoted>[^`]+)`|\"(?P<text>[^\"]*)\"|'(?P<word>[^']*)'"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/(),=<>]))"
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    unit: str = ""


Lists = Callable[[str], "Vector | None"]
"""The column or series of a name; None where the name is not one."""


def calculate(text: str, value_of: Callable[[str], Term], check_rows: Rows, list_of: Lists = lambda name: None) -> Term:
    """The Term of a formula. Raises CaseError that says what is wrong, and at which character."""
    found = calculate_list(text, value_of, check_rows, list_of)
    if isinstance(found, Vector):
        raise CaseError(
            f"the formula gives {found.text}, a list of {len(found.terms)} numbers; make one number of it with "
            'sum(), min(), max(), average(), npv(), irr() or lookup(…, "NAME")'
        )
    return found


def calculate_list(text: str, value_of: Callable[[str], Term], check_rows: Rows, list_of: Lists) -> Operand:
    """Like `calculate`, but the formula may also give a list: a column or a series."""
    if len(text) > LENGTH_MAX:
        raise CaseError(f"the formula has {len(text)} characters; split it into named steps of at most {LENGTH_MAX}")
    parser = _Parser(_tokens(text), value_of, check_rows, list_of)
    found = parser.sum(0)
    if parser.position < len(parser.tokens):
        sign = parser.tokens[parser.position]
        if sign.kind == "sign" and sign.text in COMPARISONS:
            raise CaseError(f"a comparison such as {sign.text!r} belongs in if(): if(a {sign.text} b, x, y)")
        raise CaseError(f"the formula goes on after its end with {sign.text!r}; add an operator")
    return found


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
        elif kind in ("text", "word"):
            found.append(_Token("text", match[kind]))
        elif match["sign"] is not None:
            found.append(_Token("sign", match["sign"]))
        else:
            found.append(_Token("name", match[kind]))
        position = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[_Token], value_of: Callable[[str], Term], check_rows: Rows, list_of: Lists) -> None:
        self.tokens, self.position = tokens, 0
        self._value_of, self._check_rows, self._list_of = value_of, check_rows, list_of
        self._untaken = 0

    def sum(self, depth: int) -> Operand:
        if depth > NESTING_MAX:
            raise CaseError(f"the formula is nested more than {NESTING_MAX} deep; split it into named steps")
        found = self._product(depth)
        while (sign := self._take("+", "-")) is not None:
            right = self._product(depth)
            left, found = found, combined(sign, found, right)
            if sign == "+":
                self._check_sum(left, right)
        return found

    def _check_sum(self, left: Operand, right: Operand) -> None:
        for first, second in zip(*spread(left, right), strict=True):
            for one in names_in(first):
                for other in names_in(second):
                    self._check_rows("+", [one, other])

    def _product(self, depth: int) -> Operand:
        found = self._signed(depth)
        while (sign := self._take("*", "/")) is not None:
            right = self._signed(depth)
            if sign == "/" and any(term.value == 0 for term in spread(right)[0]):
                if self._untaken and isinstance(found, Term) and isinstance(right, Term):
                    found = undefined_quotient(found, right)
                    continue
                raise CalculationError("the formula divides by zero; check the value after the last `/`")
            found = combined(sign, found, right)
        return found

    def _signed(self, depth: int) -> Operand:
        if self._take("-") is not None:
            operand = self._signed(depth + 1)
            return -operand if isinstance(operand, Term) else combined("*", constant(-1.0, NUMBER), operand)
        base = self._atom(depth)
        return combined("**", base, self._signed(depth + 1)) if self._take("**") is not None else base

    def _atom(self, depth: int) -> Operand:
        token = self._next("a number, a name or a bracket")
        if token.kind == "number":
            return constant(float(token.text), parse_unit(token.unit) if token.unit else NUMBER)
        if token.kind == "name":
            return self._call(token.text, depth) if self._take("(") is not None else self._named(token.text)
        if token.kind == "text":
            raise CaseError(f"the formula has the text {token.text!r} where a number belongs; only lookup() takes one")
        if token.text != "(":
            raise CaseError(f"the formula has {token.text!r} where a number, a name or a bracket belongs")
        found = self.sum(depth + 1)
        self._expect(")")
        return found

    def _named(self, name: str) -> Operand:
        found = self._list_of(name)
        return found if found is not None else self._value_of(name)

    def _call(self, function: str, depth: int) -> Operand:
        if function not in FORMULAS and function not in FUNCTIONS and function not in _LEDGER:
            known = [*FORMULAS, *FUNCTIONS, *_LEDGER]
            raise CaseError(f"function {function!r} is not known; {nearest(function, known)}")
        if function == "if":
            return self._choice(depth)
        positional: list[Argument] = []
        named: dict[str, Operand] = {}
        while self._take(")") is None:
            if positional or named:
                self._expect(",")
            following = self.tokens[self.position : self.position + 2]
            if len(following) > 1 and following[1].text == "=":
                name = self._next("a parameter's name").text
                self._expect("=")
                named[name] = self.sum(depth + 1)
            elif following and following[0].kind == "text":
                positional.append(self._next("a text").text)
            else:
                positional.append(self.sum(depth + 1))
        return self._apply(function, positional, named)

    def _choice(self, depth: int) -> Operand:
        """`if(a > b, x, y)`: the branch that the condition does not take may divide by zero."""
        condition = self._condition(depth)
        branches: list[Argument] = []
        for taken in (True, False):
            self._expect(",")
            skipped = isinstance(condition, Term) and bool(condition.value) is not taken
            self._untaken += skipped
            branches.append(self.sum(depth + 1))
            self._untaken -= skipped
        self._expect(")")
        self._check_all(branches)
        return call("if", [condition, *branches])

    def _condition(self, depth: int) -> Operand:
        left = self.sum(depth + 1)
        sign = self._take(*COMPARISONS)
        if sign is None:
            raise CaseError("if() needs a comparison first, one of < <= > >= == !=, as in if(price > cost, x, y)")
        right = self.sum(depth + 1)
        self._check_sum(left, right)
        left, right = comparable(left, right)
        if isinstance(left, Term) and isinstance(right, Term):
            return compared(sign, left, right)
        shape = left if isinstance(left, Vector) else right
        assert isinstance(shape, Vector)
        terms = [compared(sign, one, other) for one, other in zip(*spread(left, right), strict=True)]
        return shape.with_terms(terms, f"{text_of(left)} {sign} {text_of(right)}")

    def _apply(self, function: str, positional: list[Argument], named: dict[str, Operand]) -> Operand:
        if function in FORMULAS:
            return self._model(function, positional, named)
        if named or not positional:
            raise CaseError(f"{function}() takes values without parameter names, and at least one")
        if function in _LEDGER:
            self._check_rows(function, [getattr(operand, "name", "") for operand in positional])
        if function in ("sum", "min", "max", *_LEDGER):
            self._check_all(positional)
        if function == "sum" or function in _LEDGER:
            return call("sum", positional)
        return call(function, positional)

    def _model(self, function: str, positional: list[Argument], named: dict[str, Operand]) -> Operand:
        """One of the desk's formulas, for each element where an argument is a list."""
        given = [*positional, *named.values()]
        operands = [operand for operand in given if not isinstance(operand, str)]
        if len(operands) < len(given):
            raise CaseError(f"{function}() has a text where a number belongs; only lookup() takes one")
        shape = next((operand for operand in operands if isinstance(operand, Vector)), None)
        found = []
        for terms in zip(*spread(*operands), strict=True) if operands else [()]:
            by_name = dict(zip(named, terms[len(positional) :], strict=True))
            found.append(as_term(FORMULAS[function](*terms[: len(positional)], **by_name)))
        return found[0] if shape is None else shape.with_terms(found, f"{function}(…)")

    def _check_all(self, operands: Sequence[Argument]) -> None:
        """Whether everything that a sum adds may be added to everything else in it."""
        before: dict[str, None] = {}
        for operand in operands:
            for term in () if isinstance(operand, str) else spread(operand)[0]:
                names = names_in(term)
                for one in before:
                    for other in names:
                        self._check_rows("+", [one, other])
                before |= dict.fromkeys(names)

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
