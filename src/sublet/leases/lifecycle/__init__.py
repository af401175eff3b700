"""The life of a lease: changes of state, the executor of plans, and metering."""
