"""Colours that a file describes without an ICC profile, as one: the chromaticities and the gamma of a PNG file, the
code points (CICP, ITU-T H.273) of PNG, HEIC and AVIF files, and the mark of cameras for Adobe RGB in EXIF (DCF)."""

import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD

# x and y of white, red, green and blue
D65 = (0.3127, 0.3290)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
PRIMARIES = {
    1: SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}  # of transfer characteristics; the others that are read count as sRGB's
HDR = {16: "PQ", 18: "HLG"}
CURVE_OF_SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
NEAR = 0.05  # share by which a gamma of 2.2 may be off, and be sRGB's curve

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

COLOURS = "fewshot_iqa colours"  # the key in the `info` of an image


class Colours(NamedTuple):
    """The chromaticities, the gamma (None: sRGB's curve), and the kind of high `range`, if it is that."""

    chromaticities: tuple[float, ...]
    gamma: float | None = None
    range: str | None = None


ADOBE = Colours((*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256)


def note_colours(image: Image.Image, file: BinaryIO | None) -> None:
    """Add the colour metadata of an open file that Pillow does not read, EXIF's mark of Adobe RGB and code points, to
    `image.info`."""
    if "icc_profile" in image.info:
        return
    if "exif" in image.info:  # else Pillow may decode the pixels to look for it
        with suppress(Exception):  # it may be broken
            if image.getexif().get_ifd(IFD.Interop).get(1) == "R03":
                image.info[COLOURS] = ADOBE
    read = {"PNG": _codes_of_png, "AVIF": _codes_of_heif, "HEIF": _codes_of_heif}.get(image.format or "")
    if read and file:
        at = file.tell()
        codes = read(file)
        file.seek(at)
        if codes:
            primaries, transfer = codes
            image.info[COLOURS] = Colours(PRIMARIES.get(primaries, SRGB), GAMMAS.get(transfer), HDR.get(transfer))


def described_profile(info: Mapping[Any, Any]) -> bytes | None:
    """The ICC profile of the colours that an image's `info` describes otherwise; None where it describes none, or
    sRGB's. ValueError where they are those of high dynamic range."""
    if noted := info.get(COLOURS):
        if noted.range:
            raise ValueError(f"high dynamic range ({noted.range}): convert it to sRGB")
        return _profile(noted.chromaticities, noted.gamma)
    if "srgb" in info:
        return None
    gamma = info.get("gamma") or 1 / 2.2
    return _profile(info.get("chromaticity") or SRGB, None if abs(gamma * 2.2 - 1) < NEAR else 1 / gamma)


def _codes_of_png(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"cICP" and length == 4:
            primaries, transfer = file.read(2)
            return primaries, transfer
        if kind in (b"IDAT", b"IEND"):
            break
        file.seek(length + 4, 1)
    return None


def _codes_of_heif(file: BinaryIO) -> tuple[int, int] | None:
    """Of the first `colr` box with code points among the properties of the file's pictures."""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"meta":
            found = file.read(min(length, 1 << 20))
            at = found.find(b"colrnclx")
            return struct.unpack_from(">HH", found, at + 8) if 0 <= at <= len(found) - 12 else None
        if length < 8:
            break
        file.seek(length - 8, 1)
    return None


def _profile(chromaticities: tuple[float, ...], gamma: float | None) -> bytes | None:
    """An ICC profile, with sRGB's curve where there is no gamma; None where it is sRGB's, or where the primaries lie on
    a line."""
    if np.allclose(chromaticities, SRGB, atol=0.002) and gamma is None:
        return None
    xy = np.array(chromaticities, np.float64).reshape(4, 2)
    if not (xy[:, 1] > 0).all():
        return None
    white, *primaries = np.column_stack([xy, 1 - xy.sum(axis=1)]) / xy[:, 1:]
    columns = np.stack(primaries, axis=1)
    if abs(np.linalg.det(columns)) < 1e-3:
        return None
    columns = columns * np.linalg.solve(columns, white)
    cones = (BRADFORD @ D50) / (BRADFORD @ white)
    columns = np.linalg.inv(BRADFORD) @ (cones[:, None] * (BRADFORD @ columns))
    kind, values = (0, (gamma,)) if gamma else (3, CURVE_OF_SRGB)
    curve = b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(values)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + _fixed(D50)}
    for letter, column in zip("rgb", columns.T, strict=True):
        tags |= {f"{letter}XYZ".encode(): b"XYZ \0\0\0\0" + _fixed(column), f"{letter}TRC".encode(): curve}
    at = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"", 0x04000000, b"mntr", b"RGB ", b"XYZ ")
    return (head + bytes(12) + b"acsp" + bytes(28) + _fixed(D50)).ljust(128, b"\0") + table + body


def _fixed(values: Any) -> bytes:
    """Numbers as ICC writes them: 16 bit before the point, 16 behind."""
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
