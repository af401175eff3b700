"""Check digits of VAT IDs, by numbers that are published, or made by the published rule, and by every way to mistype a digit."""

from __future__ import annotations

import pytest

from sublet.values.vat_ids import is_vat_id

VALID = """
ATU13585627 BE0428759497 DE136695976 DK13585628 EE100931558 EL094259216 FI20774740 FR40303265045 FR83404833048 GB980780684
HR33392005961 HU12892312 IT00743110157 LU15027442 MT11679112 NL004495445B01 NL123456789B13 PL8567346215 PT501964843 SE123456789701
SI50223054
""".split()


@pytest.mark.parametrize("number", VALID)
def test_a_right_number_passes_and_most_mistyped_digits_are_found(number: str) -> None:
    assert is_vat_id(number)
    wrong = [
        number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
        for place in range(2, len(number))
        if number[place].isdecimal()
    ]
    # Where a number ends in a branch or a sequence, that part has no check digit.
    assert sum(not is_vat_id(each) for each in wrong) >= len(wrong) - 3, number
    assert not is_vat_id(number + "1") and not is_vat_id(number[:-1])


@pytest.mark.parametrize("number", ["CHE123456788", "FRK7399859412", "ESA13585625", "GBGD001", "XIHA599", ""])
def test_what_has_no_rule_passes(number: str) -> None:
    assert is_vat_id(number)
