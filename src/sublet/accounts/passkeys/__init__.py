"""Passkeys: key pairs of people, kept by their devices, that sign in without a password (WebAuthn)."""
