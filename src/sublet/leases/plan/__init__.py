"""The plan, pure: what to do next for leases and accelerators, and what becomes of a lease whose accelerators fail."""
