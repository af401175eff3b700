"""What was earned against what could have been, and where the difference went."""
