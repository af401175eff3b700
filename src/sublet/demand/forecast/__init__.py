"""The forecast: how far demand may rise, from what it did after every comparable moment of the pool's past."""
