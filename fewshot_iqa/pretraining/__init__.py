"""The training of the embedded CLIP: captioned photographs, losses, loop, and the recipe of `fsiqa pretrain`."""
