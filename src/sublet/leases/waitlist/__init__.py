"""The waiting list: requests that could not be met, kept with their organization's consent, and offered when capacity appears."""
