"""Prices: the price book, agreed prices, and what a quantity costs."""
