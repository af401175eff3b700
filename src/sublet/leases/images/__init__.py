"""Images: root file systems that organizations provide for their leases."""
