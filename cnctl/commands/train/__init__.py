"""`cnctl train`."""
