"""Files of tensors, safetensors and torch: read and written without running anything in them."""
