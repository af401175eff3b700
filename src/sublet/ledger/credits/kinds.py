"""The kinds of documents and credits in the books. This module imports nothing else, because pages need it, too."""

from __future__ import annotations

CREDIT_NOTE = "credit_note"
"""The kind of document that a credit note is, among invoices."""
