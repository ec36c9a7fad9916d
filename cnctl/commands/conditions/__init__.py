"""`cnctl conditions`."""
