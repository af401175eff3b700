"""Wires the domains together: provides each with what it needs from the others."""
