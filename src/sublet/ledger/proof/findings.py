"""What a proof found: how much was compared, and the first places where it differs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sublet.ledger.model import amount_text

FINDINGS_MAX = 20


@dataclass
class Proof:
    """What was compared, and by how much it differs: 0, or the first places where it does."""

    subject: str
    events: int = 0
    lines: int = 0
    transactions: int = 0
    invoices: int = 0
    notes: int = 0
    difference_nano: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.difference_nano and not self.findings

    def differs(self, sentence: str, nano: int = 0) -> None:
        """Note a difference of `nano`."""
        self.difference_nano += abs(nano)
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(sentence)

    def as_dict(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "ok": self.ok,
            "difference": amount_text(self.difference_nano),
            "events": self.events,
            "lines": self.lines,
            "transactions": self.transactions,
            "invoices": self.invoices,
            "notes": self.notes,
            "first_difference": self.findings[0] if self.findings else None,
            "findings": self.findings,
        }
