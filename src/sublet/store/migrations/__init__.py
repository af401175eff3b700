"""Steps from one schema to the next; `sublet admin migrate` runs them, and `sublet up` does so at its start."""
