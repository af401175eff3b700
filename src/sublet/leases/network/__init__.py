"""What a lease may reach: named lists of hosts, who may ask for which, and which addresses nobody ever reaches."""
