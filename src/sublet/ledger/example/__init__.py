"""A month of a made-up company: its customers and prices, what happens in it, and the closing package that is made of it."""
