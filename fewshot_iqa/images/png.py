"""PNG files with text entries."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import InputError
from .decode import Picture


def write_png(path: Path, image: Picture, notes: Mapping[str, str]) -> None:
    """Write uint8 (3, H, W) with `notes` as its text entries; the file appears when it is whole."""
    info = PngInfo()
    for name, text in notes.items():
        info.add_text(name, text)
    part = path.with_name(f"{path.name}.part")
    try:
        # Twice as fast as Pillow's own compression level, and hardly larger for photographs.
        Image.fromarray(image.transpose(1, 2, 0)).save(part, "PNG", pnginfo=info, compress_level=3)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def read_notes(path: Path) -> dict[str, str]:
    """The text entries of a PNG file; none where it is something else."""
    try:
        with Image.open(path) as file:
            return dict(getattr(file, "text", {}))
    except OSError:
        return {}
