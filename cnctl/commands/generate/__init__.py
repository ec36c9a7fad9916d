"""`cnctl generate`."""
