"""Conditions of the paper, each an ordinary plugin."""
