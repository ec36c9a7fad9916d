"""FLUX.1: two kinds of blocks, packed latents, guidance as an input."""
