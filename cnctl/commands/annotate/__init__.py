"""`cnctl annotate`."""
