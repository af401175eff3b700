"""Volumes: disks of an organization that outlive its leases."""
