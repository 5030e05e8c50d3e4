"""Ratings of AI-generated images: tables as released, ratings of alignment, and the stand-in from captions."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from fewshot_iqa.config import SourceSpec, ViewSpec, load_task, with_overrides
from fewshot_iqa.data.loading import Loader
from fewshot_iqa.data.readers import read_table
from fewshot_iqa.data.splits import split_by_group
from fewshot_iqa.errors import InputError
from fewshot_iqa.pretraining.captions import is_held_out
from fewshot_iqa.studies.standin import split_photographs, standin_rows
from fewshot_iqa.types import Scale
from tests.conftest import photograph, sets

DATA = os.environ.get("FSIQA_DATA")


def test_ratings_of_alignment(table):
    labels = table(
        [{"image": "photo0.png", "score": 1, "alignment": 4}, {"image": "photo1.png", "score": 2, "alignment": ""}]
    )
    task = with_overrides(load_task("csv"), labels=labels, alignment_range=[0, 5])
    records = read_table(task)
    assert [record.alignment for record in records] == [0.8, None]
    targets = next(iter(Loader(ViewSpec(crop=32), Scale(0, 2)).fixed_batches(records))).targets["alignment"]
    assert targets[0] == pytest.approx(0.8)
    assert targets[1].isnan()
    with pytest.raises(InputError, match="row 2: the alignment '4' is not a number from 0 to 3"):
        read_table(with_overrides(task, alignment_range=[0, 3]))
    with pytest.raises(InputError, match=r"alignment_range.*the lowest and the highest are needed"):
        load_task("agiqa3k", ["alignment_range=[5, 5]"])


def test_a_table_of_excel(tmp_path):
    for i in range(2):
        photograph(i).save(tmp_path / f"{i}.png")
    frame = pd.DataFrame({"image": ["0.png", "1.png"], "score": [1.5, 2.25]})
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    records = read_table(with_overrides(load_task("csv"), labels=tmp_path / "t.xlsx"))
    assert [record.rating for record in records] == [1.5, 2.25]
    (tmp_path / "t.xlsx").write_text("image,score\n")
    with pytest.raises(InputError, match=r"t\.xlsx: not readable as a table"):
        read_table(with_overrides(load_task("csv"), labels=tmp_path / "t.xlsx"))


@pytest.mark.skipif(not DATA, reason="FSIQA_DATA names no folder of label files")
@pytest.mark.parametrize(
    ("name", "file", "column", "count", "prompts"),
    [
        ("agiqa3k", "agiqa3k_data.csv", "name", 2982, 300),
        ("agiqa1k", "agiqa1k_AIGC_MOS_Zscore.xlsx", "Image", 1079, 720),
    ],
)
@pytest.mark.filterwarnings("ignore:.*1080 ratings of 1079 pictures")  # AGIQA-1K rates one twice
def test_released_tables(tmp_path, name, file, column, count, prompts):
    task, source = load_task(name), Path(DATA) / "labels" / file
    shutil.copy(source, tmp_path / task.labels[0])
    frame = pd.read_csv(source) if source.suffix == ".csv" else pd.read_excel(source, engine="calamine")
    for picture in set(frame[column]):
        (tmp_path / picture).touch()
    records = read_table(with_overrides(task, root=tmp_path))
    assert len(records) == count
    assert len({record.group for record in records}) == prompts
    pool, test = split_by_group(records, task.test, seed=0)
    assert not {record.prompt for record in pool} & {record.prompt for record in test}
    rated = [record.alignment for record in records if record.alignment is not None]
    assert len(rated) == (count if name == "agiqa3k" else 0)
    assert all(0 <= value <= 1 for value in rated)


def test_aigciqa2023(tmp_path):
    (tmp_path / "DATA" / "MOS").mkdir(parents=True)
    (tmp_path / "Image" / "allimg").mkdir(parents=True)
    for i in range(2400):
        (tmp_path / "Image" / "allimg" / f"{i}.png").touch()
    for which, offset in ((1, 0.0), (3, 1.0)):
        values = np.linspace(20, 80, 2400)[:, None] + offset
        savemat(tmp_path / "DATA" / "MOS" / f"mosz{which}.mat", {"MOSz": values})
    task = with_overrides(load_task("aigciqa2023"), root=tmp_path)
    records = read_table(task)
    assert len(records) == 2400
    assert records[0].rating == pytest.approx(20)
    assert records[-1].alignment == pytest.approx(0.81)
    assert len({record.group for record in records}) == 100
    assert records[5].group == records[405].group != records[8].group
    frame = pd.DataFrame({"a": range(100), "b": "x", "c": [f"prompt {i}" for i in range(100)]})
    frame.to_excel(tmp_path / "AIGCIQA2023_Prompts.xlsx", index=False)
    records = read_table(task)
    assert records[5].prompt == records[405].prompt == "prompt 1"
    by_model = read_table(with_overrides(task, columns={"group": "model"}))
    assert [len({record.group for record in by_model[i : i + 400]}) for i in range(0, 2400, 400)] == [1] * 6
    savemat(tmp_path / "DATA" / "MOS" / "mosz1.mat", {"MOSz": values[:9]})
    with pytest.raises(InputError, match=r"mosz1\.mat: not readable as a table \(9 scores, not the 2400"):
        read_table(task)


@pytest.fixture
def captioned_photographs(tmp_path):
    """Photographs of which some test, each with captions of its own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [f"photo{i}.png" for i in range(200)]
    test = [name for name in names if is_held_out(Path(name))][:3]
    training = [name for name in names if not is_held_out(Path(name))][:5]
    for i, name in enumerate(test + training):
        photograph(i).save(folder / name)
    rows = [f"{name},{words} {name}" for name in test + training for words in ("a view of", "some")]
    (tmp_path / "captions.txt").write_text("image,caption\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_the_stand_in_pairs_pictures_with_captions(captioned_photographs):
    source = SourceSpec(images="photos", captions="captions.txt")
    training, test = split_photographs(captioned_photographs, source, 5)
    assert (len(training), len(test)) == (5, 3)
    rows = list(standin_rows(training, captioned_photographs))
    assert [row["alignment"] for row in rows] == [1, 0, 0, 1, 1, 0, 0, 1, 1, 0]
    for row in rows:
        assert (f"{row['group']}.png" in row["prompt"]) == bool(row["alignment"])
        assert 1 <= row["score"] <= 5
    assert list(standin_rows(training, captioned_photographs)) == rows
    assert all(is_held_out(path) for path, _ in test)
    with pytest.raises(InputError, match="too few"):
        split_photographs(captioned_photographs, source, 6)
    with pytest.raises(InputError, match=r"none\.txt: not a table with the columns image and caption"):
        split_photographs(captioned_photographs, source.model_copy(update={"captions": "none.txt"}), 5)
    again = training[0][0].with_suffix(".bmp")
    photograph(9).save(again)
    with (captioned_photographs / "captions.txt").open("a") as file:
        file.write(f"{again.name},the same name\n")
    with pytest.raises(InputError, match=f"two photographs are named {again.stem}"):
        split_photographs(captioned_photographs, source, 5)


def test_the_stand_in_experiment(fsiqa, miniature, captioned_photographs, tmp_path):
    report, out = tmp_path / "report.json", tmp_path / "out"
    quick = sets([f"clip={miniature}", "views={crop: 32, count: 1}", "adapt.steps=2", "adapt.batch=4"])
    command = (
        "experiment", "agiqa-standin", "--root", captioned_photographs, "--images", "photos", "--captions",
        "captions.txt", "--training", 5, "--seeds", 2, "--out", out, "--json", report, *quick,
    )  # fmt: skip
    result = fsiqa(*command)
    assert result.code == 0, result.error
    arms = json.loads(report.read_text())["tables"]["branches"]
    assert len(arms) == 4
    for name, arm in arms.items():
        auc = arm["median"].get("alignment_auc")
        assert auc is None if name == "none" else 0 <= auc <= 1
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(before) == 2 * (5 + 3)
    again = fsiqa(*command)
    assert again.output == result.output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
