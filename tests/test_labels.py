"""Labels of scene and distortion: words, annotations beside a table, and the targets that they become."""

import os
from pathlib import Path

import pytest

from fewshot_iqa.config import CLASSES, ViewSpec, load_task, with_overrides
from fewshot_iqa.data.labels import Annotations, classes_of
from fewshot_iqa.data.loading import Loader
from fewshot_iqa.data.readers import read_table
from fewshot_iqa.data.synthetic import synthetic_records
from fewshot_iqa.data.targets import distributions
from fewshot_iqa.errors import InputError
from fewshot_iqa.types import Record, Scale
from tests.conftest import photograph


def test_labels_become_distributions():
    def record(**more):
        return Record(path=None, rating=0, group="", **more)

    records = [
        record(scene=("animal", "night"), distortion="realistic blur"),
        record(scene=("unheard of",), distortion="jpeg+darken"),
        record(),
    ]
    scenes, faults = distributions(records, "scene"), distributions(records, "distortion")
    assert scenes[0, [0, 5]].tolist() == [0.5, 0.5]
    assert scenes.sum(dim=1).tolist() == [1, 0, 0]
    assert faults[0].argmax() == CLASSES["distortion"].index("blur")
    two = [CLASSES["distortion"].index(name) for name in ("jpeg", "underexposure")]
    assert faults[1, two].tolist() == [0.5, 0.5]
    assert faults.sum(dim=1).tolist() == [1, 1, 0]


def test_every_type_of_kadid_has_its_class(photographs):
    by_class = {
        "jpeg2000": [9], "jpeg": [10], "noise": [11, 12, 13, 14, 15], "blur": [1, 2, 3, 5], "color": [4, 7, 8],
        "contrast": [24, 25], "overexposure": [16], "underexposure": [17], "spatial": [19, 20, 21, 23],
        "quantization": [6, 22], "other": [18],
    }  # fmt: skip
    records = synthetic_records(with_overrides(load_task("synthetic"), root=photographs, levels=[1], hold_out=[]))[:25]
    found = distributions(records, "distortion").argmax(dim=1).tolist()
    expected = {i: name for name, types in by_class.items() for i in types}
    assert [CLASSES["distortion"][i] for i in found] == [expected[i] for i in range(1, 26)]


def test_annotations_as_liqe_has_them(table, tmp_path):
    labels = table([{"image": f"photo{i}.png", "score": i} for i in range(3)])
    (tmp_path / "liqe.txt").write_text(
        "a/photo0.png\t1.5\trealistic blur\tanimal\tnight\tinvalid\n"
        "b/photo1.png\t1.5\twhite noise\tplant\tinvalid\tinvalid\n"
    )
    task = with_overrides(load_task("csv"), labels=labels, root=tmp_path, annotations=["liqe.txt"])
    records = read_table(task)
    assert [record.scene for record in records] == [("animal", "night"), ("plant",), ()]
    assert [record.distortion for record in records] == ["realistic blur", "white noise", None]
    batch = next(iter(Loader(ViewSpec(crop=32), Scale(0, 2)).fixed_batches(records)))
    assert batch.targets["scene"].sum(dim=1).tolist() == [1, 1, 0]
    (tmp_path / "liqe.txt").write_text("photo0.png,1.5,blur\n")
    with pytest.raises(InputError, match=r"liqe.txt, row 1: expected path, score, distortion"):
        read_table(task)


def test_folders_tell_annotated_pictures_apart(tmp_path):
    rows = []
    for folder in ("jp2k", "gblur"):
        (tmp_path / folder).mkdir()
        photograph(0).save(tmp_path / folder / "img1.png")
        rows.append(f"{folder}/img1.png")
    (tmp_path / "t.csv").write_text("image,score\n" + "".join(f"{row},{i}\n" for i, row in enumerate(rows)))
    (tmp_path / "a.txt").write_text("".join(f"{row}\t1\t{row[:4]}\tanimal\tinvalid\tinvalid\n" for row in rows))
    records = read_table(with_overrides(load_task("csv"), labels=tmp_path / "t.csv", annotations=[tmp_path / "a.txt"]))
    assert [record.distortion for record in records] == ["jp2k", "gblu"]
    (tmp_path / "a.txt").write_text("jp2k/img1.png\t1\tjp2k\tanimal\tinvalid\tinvalid\n")
    records = read_table(with_overrides(load_task("csv"), labels=tmp_path / "t.csv", annotations=[tmp_path / "a.txt"]))
    assert [record.distortion for record in records] == ["jp2k", None]


@pytest.mark.skipif(not os.environ.get("FSIQA_DATA"), reason="FSIQA_DATA names no folder of label files")
def test_liqes_own_files_have_known_words_only():
    files = sorted((Path(os.environ["FSIQA_DATA"]) / "labels" / "liqe").glob("*.txt"))
    assert len(files) == 18
    for file in files:
        paths = [Path(line.split("\t")[0]) for line in file.read_text().splitlines()]
        annotations = Annotations([file], paths)
        for path in paths:
            found = annotations[path]
            scenes = tuple(found["scene"].split(";"))
            record = Record(path, 0, "", distortion=found["distortion"], scene=scenes)
            assert len(classes_of(record, "distortion")) == 1, (path, found)
            assert len(classes_of(record, "scene")) == len(scenes), (path, found)


def test_released_tables_with_annotations(tmp_path):
    (tmp_path / "images").mkdir()
    for i in (1, 2):
        photograph(i).save(tmp_path / "images" / f"I0{i}_01_05.png")
    rows = [f"I0{i}_01_05.png,I0{i}.png,{i}.5,0.1" for i in (1, 2)]
    (tmp_path / "dmos.csv").write_text("\n".join(["dist_img,ref_img,dmos,var", *rows]) + "\n")
    (tmp_path / "liqe.txt").write_text("images/I01_01_05.png\t1.5\tgaussian blur\tplant\tinvalid\tinvalid\n")
    records = read_table(with_overrides(load_task("kadid10k"), root=tmp_path, annotations=[tmp_path / "liqe.txt"]))
    assert [record.group for record in records] == ["I01.png", "I02.png"]
    assert [classes_of(record, "distortion") for record in records] == [[0], [0]]  # of its name, without a label
    (tmp_path / "1024x768").mkdir()
    photograph(0).save(tmp_path / "1024x768" / "7.jpg")
    rows = "image_name,c1,c_total,MOS,SD\n7.jpg,0,105,3.5,0.5\n"
    (tmp_path / "koniq10k_scores_and_distributions.csv").write_text(rows)
    (record,) = read_table(with_overrides(load_task("koniq10k"), root=tmp_path))
    assert (record.path.name, record.rating) == ("7.jpg", 3.5)
