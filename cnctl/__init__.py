"""ControlNets from annotation to image: `annotate`, `train`, `generate`, `convert`."""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("cnctl")
    raise AttributeError(f"module 'cnctl' has no attribute {name!r}")
