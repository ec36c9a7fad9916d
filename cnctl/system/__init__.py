"""What the operating system does for us: atomic writes, locks, caches, processes."""
