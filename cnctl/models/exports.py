"""What a training run calls the weights that it ends with. Needs no torch."""

EXPORTS = ("controlnet", "controlnet.safetensors", "input-concat")
"""See `cnctl.models.network.Network.export_name`."""
