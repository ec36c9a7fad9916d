"""From noise to latents: the denoising loop, its schedulers and its starts."""
