"""The version of the installed package, and those of the libraries that it uses."""

import platform
from importlib.metadata import PackageNotFoundError, version

__version__ = version("cnctl")
LIBRARIES = (
    *("torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "safetensors"),
    *("huggingface-hub", "controlnet-aux", "opencv-python", "pillow", "numpy"),
)


def versions(*, libraries: bool) -> dict[str, str]:
    """Returns versions by name, from the packages' metadata: nothing is imported."""
    own = {"cnctl": __version__}
    if not libraries:
        return own
    system = {"python": platform.python_version(), "system": platform.platform()}
    return own | system | {name: _installed(name) for name in LIBRARIES}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"
