"""Names of what a training run keeps in its folder. Needs no torch."""

CHECKPOINTS = "checkpoints"
LOCK = ".lock"
LOG = "log.jsonl"
PREVIEWS = "previews"
REPORT = "report.html"
TRACKER = "tracker"
EXPORTS = ("controlnet", "controlnet.safetensors", "input-concat")
"""The weights that it ends with, see `cnctl.models.network.Network.export_name`."""
OURS = frozenset({CHECKPOINTS, LOCK, LOG, PREVIEWS, REPORT, TRACKER, *EXPORTS})
