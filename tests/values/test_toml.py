"""TOML that can't be read is an error of one kind, whatever is wrong with it."""

from __future__ import annotations

import pytest

from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.ledger.plans.model import plan_from_toml
from sublet.ledger.prices.book import book_from_toml
from sublet.values.errors import InvalidInputError
from sublet.values.toml import toml_of


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = {" * 3000, "a = " + "9" * 5000, "a ="])
def test_deep_and_long_toml_is_refused_like_any_other(text: str) -> None:
    with pytest.raises(ValueError):
        toml_of(text)
    with pytest.raises(InvalidInputError):
        plan_from_toml(text, "the body")
    with pytest.raises(InvalidInputError):
        book_from_toml(text, "the body")
    with pytest.raises(CaseError):
        parse_document(text.encode(), "case.toml")
