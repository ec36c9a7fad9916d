"""Models of the hub that no condition names: the captioner, and what the CLIP score reads."""

from cnctl.plugin import WeightFile

BLIP = WeightFile(
    repo="Salesforce/blip-image-captioning-base",
    revision="82a37760796d32b1411fe092ab5d4e227313294b",
    sha256="d6638651a5526cc2ede56f2b5104d6851b0755816d220e5e046870430180c767",
    size=989_820_849,
    licence="BSD-3-Clause",
)
"""The paper's captioner."""
CLIP = WeightFile(repo="openai/clip-vit-large-patch14", size=1_710_000_000)
HUB_MODELS = {"blip": ("captioner", BLIP), "clip": ("metric", CLIP)}
"""Short name -> what it serves as, and where it is."""
