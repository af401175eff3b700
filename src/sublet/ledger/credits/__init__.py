"""Credits: what was granted, which usage it pays for, and what expires of it."""
