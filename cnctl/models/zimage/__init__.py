"""Z-Image and Z-Image-Turbo, and ControlNets of the VideoX-Fun form for them."""
