"""The control plane: its loops and what they run."""
