"""What people look at: read from the domains, never written."""
