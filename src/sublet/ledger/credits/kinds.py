"""What documents and credits are called in the books: names that a page needs too, which loads nothing else."""

from __future__ import annotations

CREDIT_NOTE = "credit_note"
"""The kind of document that a credit note is, among invoices."""
