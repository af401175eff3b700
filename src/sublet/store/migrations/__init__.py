"""Steps from one schema to the next; `sublet db migrate` runs them, and `sublet up` does so at its start."""
