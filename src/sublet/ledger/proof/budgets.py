"""Proves the counters of budgets: spent is the sum of rated lines and direct settlements, held the sum of live holds,
and what each hold has released is what was billed for it."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection, select

from sublet.ledger.budgets.holds import DONE, LIVE, Hold, hold_of
from sublet.ledger.budgets.model import Budget
from sublet.ledger.budgets.spending import budget_of
from sublet.ledger.model import USAGE, Party
from sublet.ledger.proof.findings import Proof
from sublet.ledger.store import EventRow, LineRow
from sublet.ledger.usage.intake import Parties
from sublet.store.tables.ledger import budget_states, budgets, holds
from sublet.values.clock import from_micros, to_micros

PAGE = 2_000


class BudgetProof:
    """Adds up again what each budget has spent and holds, from the lines that the proof reads anyway."""

    def __init__(self, connection: Connection, parties: Parties, organization_id: str) -> None:
        self._by_organization: dict[str, list[tuple[Budget, int]]] = defaultdict(list)
        self._first_period: dict[str, int] = {}
        self._spent: dict[tuple[str, int], int] = defaultdict(int)
        self._held: dict[tuple[str, int], int] = defaultdict(int)
        self._drawn: dict[tuple[str, str, int], int] = defaultdict(int)
        statement = select(budgets).where(budgets.c.ended_at.is_(None))
        if organization_id:
            statement = statement.where(budgets.c.organization_id == organization_id)
        for row in connection.execute(statement):
            budget = budget_of(row)
            timezone = parties.get(connection, row.organization_id).timezone
            self._by_organization[row.organization_id].append((budget, row.opening_line))
            self._first_period[budget.id] = to_micros(budget.period_start(row.created_at, timezone))
        live = connection.execute(select(holds).where(holds.c.state.in_(LIVE)).execution_options(yield_per=PAGE))
        self._live: dict[str, Hold] = {hold.id: hold for hold in map(hold_of, live)}

    def add(self, line: LineRow, origin: EventRow, party: Party) -> None:
        """Count a rated line for the budgets that cover its usage, and for the hold that its usage names."""
        drawn = max(0, line.nano) if line.kind == USAGE and origin.hold_id in self._live else 0
        for budget, opening_line in self._by_organization.get(party.id, ()):
            if line.line_no > opening_line and budget.covers(origin.project, origin.key_id):
                start = to_micros(budget.period_start(from_micros(origin.at), party.timezone))
                self._spent[budget.id, start] += line.nano
                if drawn and origin.hold_id:
                    self._drawn[origin.hold_id, budget.id, start] += drawn

    def compare(self, connection: Connection, proof: Proof) -> None:
        """Note every budget whose counters are not these sums. Periods before a budget was set up are left out."""
        self._add_holds(proof)
        self._add_direct(connection)
        for row in connection.execute(select(budget_states)):
            key = (row.budget_id, to_micros(row.period_start))
            if key[0] not in self._first_period or key[1] < self._first_period[key[0]]:
                continue
            spent, held = self._spent[key], self._held[key]
            if (row.spent_nano, row.held_nano) != (spent, held):
                sentence = (
                    f"budget {row.budget_id}: spent {row.spent_nano} and held {row.held_nano} nano-units, "
                    f"its lines and holds come to {spent} and {held}"
                )
                proof.differs(sentence, row.spent_nano - spent)

    def _add_holds(self, proof: Proof) -> None:
        for hold in self._live.values():
            for part in hold.parts:
                self._held[part.key] += part.held
                billed = self._drawn[hold.id, part.budget_id, part.start]
                if part.budget_id in self._first_period and part.drawn != billed:
                    proof.differs(
                        f"hold {hold.id} released {part.drawn} nano-units of budget {part.budget_id}, "
                        f"its lines come to {billed}",
                        part.drawn - billed,
                    )

    def _add_direct(self, connection: Connection) -> None:
        direct = (holds.c.state == DONE) & (holds.c.events == 0)
        for row in connection.execute(select(holds).where(direct).execution_options(yield_per=PAGE)):
            hold = hold_of(row)
            for part in hold.parts:
                self._spent[part.key] += hold.settled_nano or 0
