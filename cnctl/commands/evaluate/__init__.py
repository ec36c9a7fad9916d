"""`cnctl evaluate`."""
