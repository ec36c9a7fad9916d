"""Rules of quality: each measures one number, and has bounds within which an example is kept."""
