"""Blocks: what the owner sells by its own decision, who may be broken for it, and what that costs."""
