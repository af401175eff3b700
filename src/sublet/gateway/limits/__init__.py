"""Limits that all gateways share: each takes allowances of them from the database and serves requests from memory."""
