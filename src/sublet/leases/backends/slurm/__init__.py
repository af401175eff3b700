"""The `slurm` backend: leases on a cluster that Slurm schedules."""
