"""The processes of one machine: started, supervised, ended."""
