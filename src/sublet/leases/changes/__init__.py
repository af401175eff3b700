"""What a tenant changes of a lease that it holds."""
