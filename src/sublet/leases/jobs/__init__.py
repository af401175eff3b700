"""Jobs: commands that leases run to their end."""
