"""Section 3 of the paper on diffusers' modules: bases, control, its loss, sampling, training."""
