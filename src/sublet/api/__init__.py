"""The frame of Sublet's own HTTP interface."""
