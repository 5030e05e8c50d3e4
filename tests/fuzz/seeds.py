"""Small sound inputs of each target of `targets`, for mutations to begin with."""

import io
import json
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
import openpyxl
import torch
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save
from scipy.io import savemat

from fewshot_iqa import resources, rng
from fewshot_iqa.config import dump, load_config
from fewshot_iqa.config.reading import to_yaml
from fewshot_iqa.model import checkpoint
from fewshot_iqa.types import Features
from tests.conftest import photograph
from tests.fuzz.targets import BASE, CLIP, FOLDER, PARTS, SPLIT, TORCH, WEIGHTS, miniature, room

P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)  # chromaticities in 1/100,000


def seeds(name: str) -> list[bytes]:
    """Small sound inputs of a target."""
    return list(_SEEDS[name]())


def _pictures() -> Iterator[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = photograph(0, 12, 10)
    grey = picture.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    profile = bytes(128)
    forms = [("png", p) for p in (picture, grey, deep, picture.convert("P"), picture.convert("RGBA"))]
    forms += [("jpeg", p) for p in (picture, grey, picture.convert("CMYK"))]
    forms += [("tiff", p) for p in (picture, deep, picture.convert("LAB"), picture.convert("P"), grey.convert("F"))]
    forms += [(kind, picture) for kind in ("bmp", "gif", "ppm", "webp", "mpo")]
    forms += [(kind, picture) for kind in ("jpeg2000", "avif") if features.check(kind.replace("jpeg2000", "jpg_2000"))]
    for kind, form in forms:
        several = [{"save_all": True, "append_images": [form]}] if kind.upper() in Image.SAVE_ALL else []
        for options in ({}, {"exif": exif, "icc_profile": profile}, *several):
            made = io.BytesIO()
            form.save(made, kind, **options)
            yield made.getvalue()
    for chunks in (
        {b"cICP": bytes((12, 4, 0, 1))},
        {b"cHRM": struct.pack(">8I", *P3), b"gAMA": struct.pack(">I", 55556)},
    ):
        notes, made = PngInfo(), io.BytesIO()
        for name, content in chunks.items():
            notes.add(name, content)
        picture.save(made, "png", pnginfo=notes)
        yield made.getvalue()
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4"):
        made = io.BytesIO()
        (grey.convert("1") if compression == "group4" else picture).save(made, "tiff", compression=compression)
        yield made.getvalue()


def _texts() -> Iterator[bytes]:
    yield b"image,score\np0.png,1\np1.png,2.5\np2.png,4\n"
    yield b"sep=;\nimage;score\np0.png;1,5\np1.png;80\n"
    yield b"name\tmos\tsplit\tgroup\n./p0.png\t1e1\ttrain\ta\np1.png\t2,5\ttest\tb\n"
    yield "image,score,note\np0.png,10%,a\np1,25%,\n\n".encode("utf-16")
    yield 'Ratings of 2024\nimage,score\n"p0.png",\'4\np1.png,\n'.encode("utf-8-sig")


def _votes() -> Iterator[bytes]:
    rows = [(image, rater, 1 + (i * j) % 5) for i, image in enumerate("abcd") for j, rater in enumerate("xyz")]
    yield ("image,rating,rater\n" + "".join(f"{image}.png,{score},{rater}\n" for image, rater, score in rows)).encode()
    yield b"image;score\na.png;1,5\na.png;2\nb.png;3\nb.png;5\n"
    yield b"image_a,image_b,preferred\na,b,a\nb,c,equal\nc,a,b\n"
    yield b"winner\tloser\na\tb\nb\tc\nc\ta\na\tb\n"


def _matlab() -> Iterator[bytes]:
    arrays = {"mos": np.array([[1.5, 2.0]]), "names": np.array([["a.png", "b.png"]], object), "n": np.arange(2)}
    for compressed in (False, True):
        made = io.BytesIO()
        savemat(made, arrays, do_compression=compressed)
        yield made.getvalue()


def _books() -> Iterator[bytes]:
    book = openpyxl.Workbook()
    for row in (["image", "score"], ["p0.png", 1.5], ["p1.png", 2], ["p2.png", "=1+1"]):
        book.active.append(row)
    made = io.BytesIO()
    book.save(made)
    yield made.getvalue()
    with zipfile.ZipFile(made) as archive:
        found = {name: archive.read(name) if name in archive.namelist() else b"" for name in PARTS}
    yield SPLIT.join(found.values())
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    texts = "".join(f"<si><t>{text}</t></si>" for text in ("image", "score", "p0.png"))
    found["xl/sharedStrings.xml"] = f'<sst {space} count="3" uniqueCount="3">{texts}</sst>'.encode()
    header = '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="str"><v>day</v></c></row>'
    odd = '<c r="C2" s="1" t="d"><v>2024-01-01</v></c><c r="D2" t="e"><v>#N/A</v></c><c t="b"><v>1</v></c>'
    below = f'<row><c t="s"><v>2</v></c><c r="B2"><f t="shared" ref="B2:B3" si="0">1+1</f><v>1</v></c>{odd}</row>'
    inline = '<row r="3"><c t="inlineStr"><is><r><t>p1.png</t></r></is></c><c s="2"><v>1e1</v></c></row>'
    merged = '<mergeCells count="1"><mergeCell ref="A1:B1"/></mergeCells>'
    sheet = f'<dimension ref="A1:D3"/><sheetData>{header}{below}{inline}</sheetData>{merged}'
    found[PARTS[0]] = f"<worksheet {space}>{sheet}</worksheet>".encode()
    styles = '<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy-mm-dd"/></numFmts>'
    styles += '<cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="164"/><xf numFmtId="9"/></cellXfs>'
    found["xl/styles.xml"] = f"<styleSheet {space}>{styles}</styleSheet>".encode()
    yield SPLIT.join(found.values())


def _specifications() -> Iterator[bytes]:
    for name in ("grmp", "mp_iqe", "gp_prompts", "clip_agiqa"):
        yield resources.find("configs", name).read_bytes()
    yield dump(load_config("gp")).encode()
    yield b"# pretrain\n" + resources.find("configs", "pretrain").read_bytes()
    for name in ("csv", "synthetic", "agiqa3k", "biq2021"):
        yield b"# task\n" + resources.find("tasks", name).read_bytes()
    yield b"base: ridge\nhead: {kind: gp, noise: [0.1, .5]}\nmeta: null\ndescription: |\n  c\n  'd'\n"
    yield b"# task\nbase: csv\nrange: [1, 5]\nroot: 'b'\ndescription: \"a\\u20ac\"\n"


def _checkpoints() -> Iterator[bytes]:
    name, base = miniature()
    for method, changes in (("gp", []), ("grmp", ["model.visual.main.length=1"])):
        views = ["views={short_side: 48, crop: 32, count: 5}", f"clip={name}"]
        config = load_config(method, [*views, *changes])
        model = checkpoint.build(config)
        if method == "gp":
            with rng.scoped(0, "fuzz"):
                pooled = torch.nn.functional.normalize(torch.randn(5, 1, 32), dim=-1)
            model.head.fit(Features(16, {"": pooled}), torch.linspace(0, 1, 5), groups=None)
        folder = room() / f"seed-{method}"
        checkpoint.save(folder, model, config, {"stage": "adapt", "scale": [1, 5]})
        found = json.loads((folder / checkpoint.PROVENANCE).read_text())
        kept = {key: value for key, value in found.items() if key not in ("sha256", "versions")} | {"clip": "x"}
        header, values = _parted((folder / checkpoint.WEIGHTS).read_bytes())
        settings = to_yaml(config.model_dump(mode="json", exclude_defaults=True)).encode().replace(name.encode(), CLIP)
        yield SPLIT.join([FOLDER, settings, json.dumps(kept).encode().replace(base.encode(), BASE), header, values])
    state = {"a.weight": torch.arange(6.0).reshape(3, 2), "b": torch.ones(3).half(), "n": torch.arange(3)}
    yield SPLIT.join([WEIGHTS, *_parted(save(state, {"quick_gelu": "true"}))])
    made = io.BytesIO()
    torch.save({"state_dict": state}, made)
    with zipfile.ZipFile(made) as archive:
        inner = [name for name in archive.namelist() if name.endswith("data.pkl") or "/data/" in name]
        yield SPLIT.join([TORCH, *(archive.read(name) for name in sorted(inner, key=lambda name: "/data/" in name))])
    old = io.BytesIO()
    torch.save(state, old, _use_new_zipfile_serialization=False)
    yield from (made.getvalue(), old.getvalue(), save(state))


def _parted(content: bytes) -> tuple[bytes, bytes]:
    """The header and the values of a file of safetensors."""
    end = 8 + struct.unpack_from("<Q", content)[0]
    return content[8:end], content[end:]


_SEEDS = {
    "image": _pictures,
    "csv": _texts,
    "votes": _votes,
    "mat": _matlab,
    "xlsx": _books,
    "yaml": _specifications,
    "checkpoint": _checkpoints,
}
