"""The training of the embedded CLIP."""
