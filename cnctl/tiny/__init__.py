"""The embedded base `tiny`: its networks, its scenes and its weights."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""A diffusers folder, with folders for the ControlNets, the reader and the captioner."""
