"""Data sets as released: readers for what a table and its columns cannot say.

A reader takes the label file that a task names and gives a table with the columns image, score, and what else is known:
group, distortion, scene, prompt, alignment, model, std, count, split. ValueError where the file is another one.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..config.labels import SCENES
from ..errors import InputWarning
from .matlab import read_mat
from .tables import read_text
from .workbooks import read_excel

LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # entries, references among them
LIVE_REFERENCES = 203
CSIQ_TOKENS = {
    "noise": "AWGN",
    "blur": "BLUR",
    "contrast": "contrast",
    "fnoise": "fnoise",
    "jpeg": "JPEG",
    "jpeg 2000": "jpeg2000",
    "jpeg2000": "jpeg2000",
}
CSIQ_COLUMNS = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
AIGCIQA_PICTURES, AIGCIQA_PROMPTS = 2400, 100  # 6 models, 4 pictures of a prompt each


def read_kadid10k(path: Path) -> pd.DataFrame:
    """KADID-10k's dmos.csv, whose dmos is a MOS and whose var is a standard deviation, and the types of its names."""
    table = read_text(path)
    types = [_type(name, "") for name in table["dist_img"]]
    return table.assign(distortion=types)


def read_tid(path: Path) -> pd.DataFrame:
    """mos_with_names.txt of TID2013 or TID2008, "5.51429 I01_01_1.bmp" a line, and mos_std.txt beside it, the standard
    deviations of these means."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(row) != 2 for row in rows):
        raise ValueError("not of a score and a name a line, as mos_with_names.txt is")
    table = pd.DataFrame(rows, columns=["score", "image"])
    table["group"] = table["image"].str.lower().str.partition("_")[0]
    table["distortion"] = [_type(name, "tid2013/") for name in table["image"]]
    if (file := path.with_name("mos_std.txt")).is_file():
        std = file.read_text(encoding="utf-8").split()
        if len(std) != len(table):
            raise ValueError(f"{len(table)} rows, but {file.name} has {len(std)}")
        table["std"] = std
    return table


def _type(name: str, prefix: str) -> str:
    """The distortion of a file such as I01_08_3.png, whose second number is the type."""
    from ..distortions.table import find

    return find(f"{prefix}{int(name.split('_')[1])}").name


def read_live(path: Path) -> pd.DataFrame:
    """LIVE's dmos_realigned.mat or, of release 2, dmos.mat, with refnames_all.mat beside it.

    Entries whose `orgs` is 1 are references, which have no score of their own.
    """
    found = read_mat(path)
    scores = found["dmos_new"] if "dmos_new" in found else found["dmos"]
    if "dmos_new" not in found:
        message = f"{path}: the scores of release 2; most papers take dmos_realigned.mat, which differs"
        warnings.warn(message, InputWarning, stacklevel=2)
    names = [f"{folder}/img{n}.bmp" for folder, count in LIVE_FOLDERS.items() for n in range(1, count + 1)]
    references = read_mat(path.with_name("refnames_all.mat"))["refnames_all"]
    originals = found["orgs"].astype(bool)
    if not len(scores) == len(originals) == len(references) == len(names):
        raise ValueError(f"{scores.size} scores of {len(references)} names, not the {len(names)} of LIVE")
    if originals.sum() != LIVE_REFERENCES:
        raise ValueError(f"orgs marks {originals.sum()} entries as references, not the {LIVE_REFERENCES} of LIVE")
    table = pd.DataFrame({"image": names, "score": scores, "group": references})
    table["distortion"] = table["image"].str.partition("/")[0]
    if "dmos_std" in found:
        table["std"] = found["dmos_std"]
    return table[~originals]


def read_livec(path: Path) -> pd.DataFrame:
    """LIVE Challenge's AllMOS_release.mat and its two neighbours; the seven pictures that raters were trained on are
    left out."""
    scores = read_mat(path)["AllMOS_release"]
    names = read_mat(path.with_name("AllImages_release.mat"))["AllImages_release"]
    std = read_mat(path.with_name("AllStdDev_release.mat"))["AllStdDev_release"]
    table = pd.DataFrame({"image": names, "score": scores, "std": std})
    return table[~table["image"].str.fullmatch(r"t[1-7]\.bmp")]


def read_csiq(path: Path) -> pd.DataFrame:
    """CSIQ's csiq.DMOS.xlsx (sheet all_by_image), a text file of the same columns, or a list of names and DMOS."""
    if path.suffix.lower() in (".xls", ".xlsx"):
        table = read_excel(path, sheet="all_by_image", header=3)
    else:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if len(rows[0]) == 1:
            names, scores = zip(*(line[0].split() for line in rows), strict=True)
            return pd.DataFrame({"image": names, "score": scores, "group": [name.split(".")[0] for name in names]})
        table = pd.DataFrame(rows, columns=CSIQ_COLUMNS)
    if unknown := set(table["dst_type"]) - set(CSIQ_TOKENS):
        raise ValueError(f"dst_type '{min(unknown)}' is none of CSIQ's: {', '.join(CSIQ_TOKENS)}")
    tokens = table["dst_type"].map(CSIQ_TOKENS)
    return pd.DataFrame(
        {
            "image": table["image"] + "." + tokens + "." + table["dst_lev"] + ".png",
            "score": table["dmos"],
            "group": table["image"],
            "distortion": tokens.str.lower(),
            "std": table["dmos_std"],
        }
    )


def read_bid(path: Path) -> pd.DataFrame:
    """BID's DatabaseGrades: the stated means, and deviations and numbers of the single grades beside them."""
    table = read_excel(path)
    grades = table.filter(regex=r"^Grade").apply(pd.to_numeric, errors="coerce")
    stated = pd.to_numeric(table["Average Subjective Grade"])
    counts, means = grades.notna().sum(axis=1), grades.mean(axis=1)
    other = (pd.to_numeric(table["Number of Grades"]) != counts).sum(), ((stated - means).abs() > 0.01).sum()
    if any(other):
        warnings.warn(
            f"{path.name}: {other[0]} stated numbers of grades and {other[1]} stated means differ from the grades; the "
            "means are read as stated, the numbers as they are",
            InputWarning,
            stacklevel=2,
        )
    numbers = pd.to_numeric(table["Image Number"]).astype(int)
    names = [f"DatabaseImage{number:04d}" for number in numbers]
    return pd.DataFrame({"image": names, "score": stated, "std": grades.std(axis=1), "count": counts})


def read_spaq(path: Path) -> pd.DataFrame:
    """SPAQ's workbook of MOS and attributes, and the scenes of the workbook beside it, where that is.

    Attributes are higher where the picture is better, noisiness too: high is little noise.
    """
    table = read_excel(path)
    for name in ("Scene category labels.xlsx", "Scene_category_labels.xlsx"):
        if (file := path.with_name(name)).is_file():
            shares = read_excel(file).set_index("Image name").apply(pd.to_numeric)
            words = {column: _scene(column) for column in shares}
            scenes = {image: ";".join(words[c] for c in shares if row[c] > 0) for image, row in shares.iterrows()}
            return table.assign(scene=table["Image name"].map(scenes).fillna(""))
    return table


def _scene(column: str) -> str:
    """One of LIQE's scenes, of the name that SPAQ has for it: "Indoor scene", "Still-life"."""
    plain = column.lower().replace(" scene", "").replace("-", "_")
    return plain if plain in SCENES else "others"


def read_pipal(path: Path) -> pd.DataFrame:
    """PIPAL's Train_Label: a file for each reference, "A0001_00_00.bmp,1520.0648" a line."""
    files = sorted(path.parent.glob("A*.txt"))
    rows = [line.split(",") for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    table = pd.DataFrame(rows, columns=["image", "score"])
    return table.assign(group=table["image"].str.partition("_")[0])


def read_flive(path: Path) -> pd.DataFrame:
    """FLIVE's labels_image.csv without the three pictures that are in none of its parts."""
    table = read_text(path)
    return table[~table["name"].str.match(r"EE371R/rq")]


def read_piq23(path: Path) -> pd.DataFrame:
    """PIQ23's scores without the row of Exposure that was never compared, whose deviation means nothing."""
    table = read_text(path)
    return table[pd.to_numeric(table["TOTAL COMPARISONS"]) > 0]


def read_gfiqa(path: Path) -> pd.DataFrame:
    """GFIQA's table (img_name, mos), that of IQA-Dataset, or the label.json of each part as DSL-FIQA gives them out."""
    if path.suffix.lower() == ".json":
        parts = []
        for file in sorted(path.parents[1].glob("*/label.json")):
            part, found = file.parent.name, _json(file)
            images = [f"{part}/img/{Path(name).name}" for name in found["Image"]]
            parts.append(pd.DataFrame({"image": images, "score": found["MOS"], "split": part}))
        return pd.concat(parts, ignore_index=True)
    table = read_text(path)
    if "ratings" not in table:
        return table.rename(columns={"img_name": "image", "mos": "score"})
    names = table["dis_img_path"].str.rpartition("/")[2]
    votes = [np.array(text.strip("[]").split(), dtype=float) for text in table["ratings"]]
    std, count = [each.std(ddof=1) for each in votes], [len(each) for each in votes]
    return pd.DataFrame({"image": names, "score": table["score"], "std": std, "count": count})


def read_aigciqa2023(path: Path) -> pd.DataFrame:
    """AIGCIQA2023's DATA/MOS/mosz1.mat (quality), mosz2.mat (authenticity) or mosz3.mat (correspondence) as `score`,
    the last as `alignment`; 6 models made 4 pictures of each of 100 prompts, numbered in this order.

    The pictures are Image/allimg/NUMBER.png or Image/MODEL/PROMPT-1..4.png. The prompts are in the third column of
    AIGCIQA2023_Prompts.xlsx beside DATA, where that is; deviations in DATA/STD.
    """
    score, alignment = (read_mat(file)["MOSz"] for file in (path, path.with_name("mosz3.mat")))
    if len(score) != AIGCIQA_PICTURES:
        raise ValueError(f"{len(score)} scores, not the {AIGCIQA_PICTURES} of AIGCIQA2023")
    number = np.arange(AIGCIQA_PICTURES)
    prompt = number % 400 // 4
    root = path.resolve().parents[2]
    names = [f"allimg/{i}.png" for i in number]
    if not (root / "Image" / "allimg").is_dir():
        models = ("Controlnet", "DALLE", "Glide", "Lafite", "stable-diffusion", "Unidiffuser")
        names = [f"{models[i // 400]}/{i % 400 // 4:03d}-{i % 4 + 1}.png" for i in number]
    table = pd.DataFrame({"image": names, "model": number // 400, "group": prompt})
    table["score"], table["alignment"] = score, alignment
    deviations = path.parent.with_name("STD") / f"SD{path.stem[-1]}.mat"
    if deviations.is_file():
        table["std"] = read_mat(deviations)["SD"]
    if (file := root / "AIGCIQA2023_Prompts.xlsx").is_file():
        column = read_excel(file, header=None).iloc[-AIGCIQA_PROMPTS:, 2]
        table["prompt"] = column.str.strip().to_numpy()[prompt]
    return table


def read_evalmuse(path: Path) -> pd.DataFrame:
    """EvalMuse-40K's list of pictures with their votes of alignment."""
    return _voted([(row["img_path"], row["prompt"], row["total_score"]) for row in _json(path)], path)


def read_genai_bench(path: Path) -> pd.DataFrame:
    """GenAI-Bench's genai_image.json: three votes of the alignment of each model's picture of a prompt."""
    each = [
        (f"{model}/{id_}", row["prompt"], votes)
        for id_, row in _json(path).items()
        for model, votes in row["models"].items()
    ]
    return _voted(each, path).assign(model=[name.partition("/")[0] for name, *_ in each])


def _voted(rows: Sequence[tuple[str, str, Sequence[float]]], path: Path) -> pd.DataFrame:
    """Means of votes from 1 to 5; others, which are typing errors, are left out and counted."""
    kept = [[vote for vote in votes if 1 <= vote <= 5] for *_, votes in rows]
    wrong = [(name, votes) for (name, _, votes), rest in zip(rows, kept, strict=True) if len(rest) < len(votes)]
    if wrong:
        name, votes = wrong[0]
        message = f"{path.name}: votes that are not from 1 to 5 are left out, of {len(wrong)} pictures: {name} {votes}"
        warnings.warn(message, InputWarning, stacklevel=3)
    table = pd.DataFrame({"image": [name for name, *_ in rows], "prompt": [prompt for _, prompt, _ in rows]})
    table["score"] = [np.mean(votes) for votes in kept]
    table["std"] = [np.std(votes, ddof=1) if len(votes) > 1 else np.nan for votes in kept]
    return table.assign(count=[len(votes) for votes in kept])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    "kadid10k": read_kadid10k,
    "tid": read_tid,
    "live": read_live,
    "livec": read_livec,
    "csiq": read_csiq,
    "bid": read_bid,
    "spaq": read_spaq,
    "pipal": read_pipal,
    "flive": read_flive,
    "piq23": read_piq23,
    "gfiqa": read_gfiqa,
    "aigciqa2023": read_aigciqa2023,
    "evalmuse": read_evalmuse,
    "genai_bench": read_genai_bench,
}
