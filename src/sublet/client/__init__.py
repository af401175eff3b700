"""How programs talk to a running Sublet."""
