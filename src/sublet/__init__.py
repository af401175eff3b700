"""Sublet rents out the accelerators that their owner is not using, and gives them back when the owner needs them."""

__version__ = "0.2.0"
