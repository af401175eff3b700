"""The journal: double entry, and the hash chain that no transaction leaves."""
