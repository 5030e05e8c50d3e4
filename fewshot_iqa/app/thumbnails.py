"""Small images of pictures, made once and kept on disk."""

import contextlib
import hashlib
import io
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path

from ..errors import InputError
from ..files import remove_leftovers, replacing
from ..images import thumbnail

SIDE = 240  # pixels of the longer side
MOST = 50_000  # files that are kept; the oldest go first


class Thumbnails:
    """JPEG thumbnails of pictures, keyed by path, size and time of change, in a `folder` that outlives the process
    (default: that of the user's caches, or a temporary one where that cannot be written)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_cache_path("fewshot_iqa", appauthor=False) / "thumbnails"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / ".writable").touch()
        except OSError:
            self.folder = Path(tempfile.mkdtemp(prefix="fsiqa-thumbnails-"))
        remove_leftovers(self.folder)
        kept = sorted(self.folder.glob("*.jpg"), key=lambda path: path.stat().st_mtime)
        for path in kept[: max(0, len(kept) - MOST)]:
            path.unlink(missing_ok=True)

    def get(self, picture: Path) -> Path:
        """The file of a picture's thumbnail; InputError where the picture cannot be read."""
        try:
            state = picture.stat()
        except OSError as error:
            raise InputError(f"{picture}: {error.strerror}") from None
        key = f"{picture.resolve()} {state.st_size} {state.st_mtime_ns} {SIDE}"
        path = self.folder / f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:32]}.jpg"
        if not path.is_file() or not path.stat().st_size:  # of which a power cut left the name
            with replacing(path, "wb", forced=False) as file:
                file.write(jpeg_thumbnail(picture))
        return path

    def make_in_background(self, pictures: Sequence[Path]) -> threading.Event:
        """Begin to make those of all pictures, in order; the event stops it."""
        stop = threading.Event()

        def make() -> None:
            for picture in pictures:
                if stop.is_set():
                    return
                with contextlib.suppress(InputError, OSError):  # the page marks such a picture when it is in sight
                    self.get(picture)

        threading.Thread(target=make, daemon=True).start()
        return stop


def jpeg_thumbnail(picture: Path) -> bytes:
    """The content of a JPEG file; InputError where the picture cannot be read."""
    buffer = io.BytesIO()
    thumbnail(picture, SIDE).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
