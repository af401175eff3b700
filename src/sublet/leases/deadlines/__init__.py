"""Leases with a deadline: hours of service that run when accelerators are idle, are paused for the owner, and end in time."""
