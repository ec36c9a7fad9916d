"""What families of diffusion transformers share: hints as latents, residuals as tokens, files."""
