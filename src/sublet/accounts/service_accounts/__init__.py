"""Service accounts: programs of an organization that call Sublet, and whose keys no person's leaving ends."""
