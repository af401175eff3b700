"""Reclaim: whom to ask back when the owner needs capacity, the orders, and what is given back afterward."""
