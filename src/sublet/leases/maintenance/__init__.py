"""Planned maintenance: accelerators that the operator takes away for a time, and the leases that have to end for it."""
