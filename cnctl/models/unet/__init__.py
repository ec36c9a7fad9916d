"""The family of U-Nets: Stable Diffusion 1.x, 2.x, XL, and the embedded base."""
