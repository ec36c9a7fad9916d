"""What several conditions share: the paper, and the repository of detectors' weights."""

from __future__ import annotations

from cnctl.plugin import WeightFile

PAPER = (
    "Zhang, Agrawala: Adding Conditional Control to Text-to-Image Diffusion Models, "
    "arXiv 2302.05543v1"
)
SECTION = f"{PAPER}, section 3.5"

REPOSITORY = "lllyasviel/Annotators"
REVISION = "982e7edaec38759d914a963c48c4726685de7d96"


def annotator(
    filename: str, *, sha256: str, size: int, licence: str, commercial: bool = True
) -> WeightFile:
    """A file of the repository that collects the detectors of the released ControlNets."""
    return WeightFile(
        repo=REPOSITORY,
        filename=filename,
        revision=REVISION,
        sha256=sha256,
        size=size,
        licence=licence,
        commercial=commercial,
    )
