"""Feeds: where samples of demand come from: this machine, CSV, Prometheus, Slurm, published traces."""
