"""Payments of invoices, and statements of account."""
