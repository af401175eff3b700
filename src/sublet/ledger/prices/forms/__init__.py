"""The forms of price. A new form is one file in this folder, and one line here.

How to add one, and the suite that it has to pass: docs/add-a-price-form.md.
"""

from __future__ import annotations

from sublet.ledger.prices.forms.flat import Flat
from sublet.ledger.prices.forms.form import Form
from sublet.ledger.prices.forms.graduated import Graduated
from sublet.ledger.prices.forms.package import Package
from sublet.ledger.prices.forms.per_unit import PerUnit
from sublet.ledger.prices.forms.volume import Volume

FORMS: dict[str, Form] = {form.name: form for form in (Flat(), PerUnit(), Graduated(), Volume(), Package())}
"""By the name that a price's `kind` gives."""
