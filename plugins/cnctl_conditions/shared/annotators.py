"""What several conditions say alike: the paper, the released models, the repository of weights."""

from __future__ import annotations

from cnctl.plugin import WeightFile, Weights

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


def tiny(name: str) -> Weights:
    """A ControlNet that the embedded base brings along; cnctl's own."""
    return Weights(source=f"tiny/{name}", family="tiny", licence="Apache-2.0")


def sd15(*names: str) -> tuple[Weights, ...]:
    """ControlNets of the paper's author for Stable Diffusion 1.5, best first."""
    licence = "CreativeML OpenRAIL-M"
    return tuple(
        Weights(source=f"lllyasviel/{name}", family="SD 1.x", licence=licence) for name in names
    )


def sd21(*names: str) -> tuple[Weights, ...]:
    """Thibaud Zamora's ControlNets for Stable Diffusion 2.1."""
    licence = "other: that of the detector's"
    return tuple(
        Weights(source=f"thibaud/{name}", family="SD 2.x", licence=licence) for name in names
    )


def sdxl(*ids: str) -> tuple[Weights, ...]:
    """ControlNets for SDXL of several authors, best first."""
    licences = {
        "diffusers": "CreativeML OpenRAIL++-M",
        "thibaud": "other: that of OpenPose",
        "xinsir": "Apache-2.0",
    }
    return tuple(
        Weights(source=one, family="SDXL", licence=licences[one.partition("/")[0]]) for one in ids
    )


def union(control_type: int) -> Weights:
    """A ControlNet-Union for SDXL: xinsir's, or its larger form, which knows kinds 6 and 7, too."""
    small, large = (
        "xinsir/controlnet-union-sdxl-1.0",
        "brad-twinkl/controlnet-union-sdxl-1.0-promax",
    )
    return Weights(
        source=small if control_type < 6 else large,
        family="SDXL",
        licence="Apache-2.0",
        control_type=control_type,
    )
