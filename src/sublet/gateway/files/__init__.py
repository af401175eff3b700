"""Files of customers: what they upload for batches, and what batches make."""
