"""Images: root file systems that an organization brings for its leases."""
