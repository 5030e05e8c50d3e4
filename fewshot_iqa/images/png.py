"""Writing pictures: PNG files with text entries, and drawings that show who made them."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import InputError
from ..files import writing
from .decode import Picture
from .opening import opened

SOFTWARE = 0x0131  # of EXIF: what wrote the file


def write_png(path: Path, image: Picture, notes: Mapping[str, str]) -> None:
    """Write uint8 (3, H, W) with `notes` as its text entries; the file appears when it is whole."""
    info = PngInfo()
    for name, text in notes.items():
        info.add_text(name, text)
    with writing(path, "wb") as file:
        # Twice as fast as Pillow's own compression level, and hardly larger for photographs.
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG", pnginfo=info, compress_level=3)


def read_notes(path: Path) -> dict[str, str]:
    """The text entries of a PNG file; none where it is something else."""
    try:
        with opened(path) as file:
            return dict(getattr(file, "text", {}))
    except InputError:
        return {}


def write_drawing(path: Path, drawing: Image.Image) -> None:
    """Write a drawing of ours in the format of the suffix; InputError where that is none, or it cannot be written."""
    format = Image.registered_extensions().get(path.suffix.lower())
    try:
        with writing(path, "wb") as file:
            drawing.save(file, format or "PNG", quality=85, exif=own_mark())
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(f"{path}: cannot be written ({error})") from None


def own_mark() -> Image.Exif:
    """The EXIF entry by which a drawing of ours is known from a photograph."""
    mark = Image.Exif()
    mark[SOFTWARE] = "fewshot_iqa"
    return mark
