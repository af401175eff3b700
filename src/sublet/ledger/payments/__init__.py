"""Payments: what was received for invoices, and statements of account."""
