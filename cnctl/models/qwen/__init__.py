"""Qwen-Image: one language model reads prompts, packed latents of a video autoencoder."""
