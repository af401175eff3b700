"""Puts the parts together: what a domain needs of another is handed to it here."""
