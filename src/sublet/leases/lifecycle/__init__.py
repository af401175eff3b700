"""The life of a lease: every change of state, the steps that carry a plan out, and the meter."""
