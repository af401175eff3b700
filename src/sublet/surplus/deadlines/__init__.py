"""The class `deadline`: hours of service until a deadline, which may be paused and resumed on the way."""
