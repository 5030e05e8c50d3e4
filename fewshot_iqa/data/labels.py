"""What a picture shows and what is wrong with it, by the classes of `config.labels`; LIQE's annotations."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..config import CLASSES
from ..errors import InputError, first_sentence
from ..types import Record

# LIQE's own words for distortions, KADID-10k's types and TID2013's, by class
_KINDS = {
    "blur": "gblur gaussian_blur lens_blur motion_blur color_shift lens motion shifting realistic_blur",
    "color": "color_diffusion color_saturation_hsv color_saturation_lab diffusion oversaturation desaturation "
    "saturation chromatic_aberration",
    "contrast": "high_sharpen contrast_change sharpness realistic_contrast_change",
    "jpeg": "jpeg_compression jpeg_errors",
    "jpeg2000": "jp2k jpeg2000_compression fastfading jpeg2000_errors",
    "noise": "wn awgn white_noise white_noise_ycbcr impulse_noise multiplicative_noise denoise white_with_color "
    "impulse multiplicative white_noise_with_denoise fnoise realistic_noise additive_noise color_noise "
    "correlated_noise masked_noise high_frequency_noise comfort_noise noisy_compression",
    "overexposure": "brighten",
    "quantization": "color_quantization quantization_noise color_dither",
    "underexposure": "darken",
    "spatial": "jitter non_eccentricity_patch pixelate color_block noneccentricity_patch color_blocking "
    "local_blocks sparse_sampling",
    "other": "mean_shift shifting_the_mean other_realistic",
}
_CLASS = {kind: name for name, kinds in _KINDS.items() for kind in kinds.split()}


def classes_of(record: Record, target: str) -> list[int]:
    """The indices of the classes of `target` (scene or distortion) that a picture is labelled with; none that are
    unknown. A compound ("jpeg+darken") is of two."""
    given = record.scene if target == "scene" else (record.distortion or "").split("+")
    names = [name.strip().lower().removeprefix("tid2013/").replace(" ", "_").replace("-", "_") for name in given]
    known = [_CLASS.get(name, name) if target == "distortion" else name for name in names]
    return [CLASSES[target].index(name) for name in dict.fromkeys(known) if name in CLASSES[target]]


def labelled(record: Record, target: str) -> bool:
    """Whether anything is known of a picture's scene, distortion or alignment."""
    return record.alignment is not None if target == "alignment" else bool(classes_of(record, target))


class Annotations:
    """LIQE's annotations of the pictures `files`: tab-separated path, score, distortion and three scenes,
    of which some are `invalid`. A file is known by its name where names are unique on both sides, else by its folders
    as well."""

    def __init__(self, paths: Sequence[Path], files: Sequence[Path]) -> None:
        rows = {name: (distortion, scenes) for path in paths for name, distortion, scenes in _rows(path)}
        self._of: dict[str, Mapping[str, str]] = {}
        self._by_name = True
        if not rows:
            return
        self._by_name = all(len({Path(one).name for one in each}) == len(set(each)) for each in (rows, files))
        self._of = {
            Path(name).name if self._by_name else name: {"distortion": distortion, "scene": ";".join(scenes)}
            for name, (distortion, scenes) in rows.items()
        }

    def __getitem__(self, file: Path) -> Mapping[str, str]:
        """{"distortion", "scene"}, scenes joined as in a table's column; {} for a picture that is not annotated."""
        if self._by_name:
            return self._of.get(file.name, {})
        ends = ("/".join(file.parts[start:]) for start in range(len(file.parts)))
        return next((self._of[end] for end in ends if end in self._of), {})


def _rows(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"annotations {path}: not a regular file")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"annotations {path}: cannot be read ({first_sentence(error)})") from None
    for number, row in enumerate(rows, start=1):
        if len(row) != 6:
            raise InputError(f"{path}, row {number}: expected path, score, distortion and three scenes between tabs")
        yield row[0], row[2], [scene for scene in row[3:] if scene != "invalid"]
