"""The operating system: atomic writes, locks, caches, processes."""
