"""The recipe that trains the embedded base `tiny`; `cnctl.tiny` runs what it made."""
