"""People: who they are, in which organizations, and that they are signed in."""
