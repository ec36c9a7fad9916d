"""Names of what a training run keeps in its folder. Needs no torch."""

from cnctl.models.exports import EXPORTS

CHECKPOINTS = "checkpoints"
LOCK = ".lock"
LOG = "log.jsonl"
PREVIEWS = "previews"
REPORT = "report.html"
TRACKER = "tracker"
OURS = frozenset({CHECKPOINTS, LOCK, LOG, PREVIEWS, REPORT, TRACKER, *EXPORTS})
