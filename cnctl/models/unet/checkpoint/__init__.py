"""Checkpoint formats: which form a ControlNet file has, and the same weights in another form."""
