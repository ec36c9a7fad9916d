"""The embedded base model: scenes drawn by a program, the recipe trained on them, the weights."""
