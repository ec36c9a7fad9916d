"""What the operating system provides: atomic writes, locks, caches, processes."""
