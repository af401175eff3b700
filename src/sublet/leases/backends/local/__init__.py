"""Leases on this machine: a sandbox pinned to the leased accelerators, with SSH, owned by one detached shim each."""
