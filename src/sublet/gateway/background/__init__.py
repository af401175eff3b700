"""Background responses: begun by a request that does not wait for them, and told to those who ask."""
