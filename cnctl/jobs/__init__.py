"""Old paths that plugins written for cnctl 0.1 import. To be removed in 0.3."""
