"""From a file, an array or a tensor to crops. A picture is a uint8 array (3, H, W) of RGB; distortions and models take
tensors. Nothing here imports torch before it is needed."""

from ..files import SUFFIXES, find_images, photographs_in
from .decode import (
    MAX_ASPECT,
    Picture,
    Source,
    content_hash,
    list_pictures,
    read_image,
    to_float,
    to_picture,
    to_uint8,
)
from .opening import image_size, opened, read_header
from .png import own_mark, read_notes, write_drawing, write_png
from .views import assemble, enlarge, fixed_views, prepare, prepared_size, random_view, shrink, shrunk_size, thumbnail

__all__ = [
    "MAX_ASPECT",
    "SUFFIXES",
    "Picture",
    "Source",
    "assemble",
    "content_hash",
    "enlarge",
    "find_images",
    "fixed_views",
    "image_size",
    "list_pictures",
    "opened",
    "own_mark",
    "photographs_in",
    "prepare",
    "prepared_size",
    "random_view",
    "read_header",
    "read_image",
    "read_notes",
    "shrink",
    "shrunk_size",
    "thumbnail",
    "to_float",
    "to_picture",
    "to_uint8",
    "write_drawing",
    "write_png",
]
