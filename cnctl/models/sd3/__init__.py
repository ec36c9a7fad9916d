"""Stable Diffusion 3 and 3.5: a transformer, flow matching, hints as latents."""
