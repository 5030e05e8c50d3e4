"""From a file, an array or a tensor to crops. A picture is uint8 RGB (3, H, W), and becomes float in [0, 1] where it
is batched."""

from ..files import SUFFIXES, find_images, photographs_in
from .decode import (
    MAX_ASPECT,
    Source,
    content_hash,
    image_size,
    list_pictures,
    read_image,
    to_float,
    to_picture,
    to_uint8,
)
from .png import read_notes, write_png
from .views import assemble, enlarge, fixed_views, prepare, random_view, shrink

__all__ = [
    "MAX_ASPECT",
    "SUFFIXES",
    "Source",
    "assemble",
    "content_hash",
    "enlarge",
    "find_images",
    "fixed_views",
    "image_size",
    "list_pictures",
    "photographs_in",
    "prepare",
    "random_view",
    "read_image",
    "read_notes",
    "shrink",
    "to_float",
    "to_picture",
    "to_uint8",
    "write_png",
]
