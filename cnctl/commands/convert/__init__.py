"""`cnctl convert`."""
