"""Reports for finance: what was earned in each month, what is deferred, and what is not billed yet."""
