"""Invoices: lines, taxes, numbers without gaps, documents, and the close of a month."""
