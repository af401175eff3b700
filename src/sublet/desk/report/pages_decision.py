"""The section on the lease decision: lease a block, or keep it."""

from __future__ import annotations

from sublet.desk.report import grids
from sublet.desk.report.blocks import Block, Figure, Paragraph, Section, TableBlock, rows_of
from sublet.desk.report.wording import Wording


def decision(w: Wording) -> Section | None:
    """What leasing brings over keeping, and from which rent on."""
    desk = w.desk
    if desk is None or desk.decision is None:
        return None
    found, sheet = desk.decision, desk.sheet
    better = sheet[found.result].number >= 0
    places = {
        "a": f"{{{found.indifference}}}", "b": f"{{{found.price}}}", "c": f"{{{found.result}}}", "d": f"{{{found.displaced}}}",
        "e": f"{{{found.worth}}}",
    }  # fmt: skip
    words = (
        w(
            "Above {a} leasing is better; at {b} it brings {c} over keeping. Of the leased hours, {d} would have gone to own "
            "work that is worth {e}.",
            **places,
        )
        if better
        else w(
            "Below {a} keeping is better; at {b} leasing brings {c} over keeping. Of the leased hours, {d} would have gone to "
            "own work that is worth {e}.",
            **places,
        )
    )
    factor, unit = w.axis(sheet[found.result].unit)
    values = [[sheet[name].number * factor for name in row] for row in found.cells]
    rows = [f"{share:.0%}" for share in found.axis_displaced]
    columns = [f"{price:g}" for price in found.axis_price]
    titles = (w("displaced share"), w("rent, {a}", a=w.axis("USD/W-yr")[1]))
    blocks: list[Block] = [
        Paragraph(words),
        Figure(
            lambda width: grids.heat_map(width, rows, columns, values, titles=titles, split=0.0),
            w(
                "Leasing less keeping in {a}, by rent and by the share of the leased hours that own work would have used. On the "
                "heavy line both come to the same.",
                a=unit,
            ),
            is_wide=True,
        ),
        TableBlock((w("what"), w("value")), rows_of([(w.name(name), name) for name in found.rows])),
        *(
            [
                Paragraph(
                    w("Even if own work would have used every leased hour, leasing would come out ahead at this rent.")
                )
            ]
            if sheet["decision.displaced_at_most"].number > 1
            else []
        ),
        Paragraph(
            w(
                "The displaced share comes from the demand history (`sublet block advise`); work that can wait costs less than "
                "work that can't."
            ),
            "fine",
        ),
    ]
    lead = w("Lease {a} for a time, or keep it for the owner's own work?", a=f"{{{found.power}}}")
    return Section("decision", w("Lease or keep"), lead, tuple(blocks))
