"""`fsiqa data`: info, check, convert, split; and splits that are read back."""

import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fewshot_iqa
from fewshot_iqa import InputError
from fewshot_iqa.recipes import datasets
from fewshot_iqa.recipes.draws import draw_trials
from fewshot_iqa.recipes.sources import read_source
from fewshot_iqa.resources import available
from fewshot_iqa.types import Shots
from tests import releases
from tests.releases import MAKERS

pytestmark = pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")


@pytest.fixture
def agiqa(tmp_path):
    root = tmp_path / "agiqa3k"
    root.mkdir()
    releases.agiqa3k(root)
    return root


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "aigciqa2023"])
def test_the_check_of_each_data_set_passes(name, fsiqa, tmp_path):
    root = tmp_path / name
    root.mkdir()
    count = MAKERS[name](root)
    result = fsiqa("data", "check", name, "--root", root, "--no-direction")
    assert result.code == 0, result.output + result.error
    assert "it can be used" in result.output
    assert f"{count} found, 0 missing, 0 unreadable" in result.output
    assert result.output.count("found, 0 missing") == (2 if name == "biq2021" else 1)
    good = "lower is better" if name in ("live", "csiq") else "higher is better"
    assert good in result.output


def test_what_is_wrong_is_told_with_evidence(fsiqa, agiqa):
    (agiqa / "glide_lowcorr_002.jpg").unlink()
    (agiqa / "glide_lowcorr_003.jpg").write_bytes(b"not a picture")
    text = (
        (agiqa / "data.csv")
        .read_text()
        .replace("AttnGAN_normal_001.jpg,prompt 001,,,,0.3", "AttnGAN_normal_001.jpg,prompt 001,,,,9")
    )
    (agiqa / "data.csv").write_text(text)
    result = fsiqa("data", "check", "agiqa3k", "--root", agiqa, "--no-direction")
    assert result.code == 1
    shown = " ".join(result.output.split())
    assert "1 of 12 pictures are missing in" in shown
    assert "glide_lowcorr_002.jpg" in shown
    assert "1 pictures cannot be decoded" in shown
    assert "1 ratings lie outside of the scale: 9 of AttnGAN_normal_001.jpg" in shown
    assert "it cannot be used as it is" in shown


def test_a_table_of_ones_own_is_checked(fsiqa, rated):
    result = fsiqa("data", "check", "--labels", rated, "--no-direction")
    assert result.code == 0, result.error
    assert "no scale is stated" in result.output


def test_ratings_that_run_the_other_way(fsiqa, tmp_path):
    """The shipped model sees strong blur and noise as bad."""
    rows = []
    for i in range(64):
        strength = i / 63
        noise = np.random.default_rng(i)
        blocks = np.kron(noise.integers(60, 200, (6, 8, 3)), np.ones((40, 40, 1)))
        pixels = np.clip(blocks + noise.normal(0, 80 * strength, blocks.shape), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append({"image": f"{i}.png", "score": strength})
    pd.DataFrame(rows).to_csv(tmp_path / "dmos.csv", index=False)
    wrong = fsiqa("data", "check", "--labels", tmp_path / "dmos.csv")
    assert wrong.code == 1
    assert "is low good (--lower-is-better)?" in wrong.output
    right = fsiqa("data", "check", "--labels", tmp_path / "dmos.csv", "--lower-is-better")
    assert right.code == 0


def test_info_of_each_data_set(fsiqa):
    for name in available("tasks"):
        result = fsiqa("data", "info", name)
        assert result.code == 0
    assert "lower is better" in fsiqa("data", "info", "live").output
    assert "Did you mean 'live'" in fsiqa("data", "info", "liv").error


def test_the_own_table_is_not_overwritten(agiqa, fsiqa, tmp_path):
    out = tmp_path / "labels.csv"
    assert fsiqa("data", "convert", "agiqa3k", "--root", agiqa, "--out", out).code == 0
    own = fsiqa("data", "convert", "--labels", out, "--root", agiqa, "--out", out)
    assert "labels.csv: is read by this run; name another file" in own.error


@pytest.mark.parametrize("name", ["agiqa3k", "live", "piq23", "koniq10k", "tid2013", "spaq"])
def test_a_converted_data_set_reads_back_to_the_same(name, fsiqa, tmp_path):
    """With the options that are printed."""
    root, out = tmp_path / name, tmp_path / "labels.csv"
    root.mkdir()
    MAKERS[name](root)
    chosen = "scene" if name == "piq23" else None  # the other has all scenes on both sides
    split = ("--splits", chosen) if chosen else ()
    printed = fsiqa("data", "convert", name, "--root", root, "--out", out, *split)
    words = shlex.split(printed.output.partition("read it with ")[2].replace(str(out.name), str(out)))
    given = dict(zip(words[::2], words[1::2], strict=False))
    flag = "--lower-is-better" in words
    overrides = [word.removeprefix("task.") for word in words if word.startswith("task.")]
    low, high = given["--range"].split(",")
    options = {"labels": out, "root": root, "range": (float(low), float(high)), "lower_is_better": flag}
    splits = str(out) if "--splits" in words else None
    again, first = (
        read_source(None, overrides=overrides, splits=splits, **options),
        read_source(name, root=root, splits=chosen),
    )
    pool, test = again.splits[0] if again.splits else (again.records, None)
    assert (pool, test) == (first.records, first.test)
    assert again.source.pooled == first.source.pooled


def test_splits_are_disjoint_and_read_back(agiqa, fsiqa, tmp_path):
    result = fsiqa("data", "split", "agiqa3k", "--root", agiqa, "--seeds", 3, "--out", tmp_path / "splits")
    assert result.code == 0, result.error
    files = sorted((tmp_path / "splits").iterdir())
    assert [file.name for file in files] == [f"agiqa3k-{seed}.csv" for seed in range(3)]
    rated = read_source("agiqa3k", root=agiqa, splits=str(tmp_path / "splits"))
    by_chance = read_source("agiqa3k", root=agiqa)
    for seed, file in enumerate(files):
        table = pd.read_csv(file)
        groups = {part: set(rows.group) for part, rows in table.groupby("part")}
        assert not groups["train"] & groups["test"]
        (read,), (drawn,) = (draw_trials(some, Shots.parse("100%"), [seed]) for some in (rated, by_chance))
        assert {r.path for r in read.test} == {r.path for r in drawn.test}
        assert {r.path for r in read.shots} == {r.path for r in drawn.shots}
    with pytest.raises(InputError, match="there are 3 splits, none for the seed 3"):
        draw_trials(rated, Shots.parse(3), [3])
    assert fsiqa("adapt", "--task", "agiqa3k", "--root", agiqa, "--splits", tmp_path / "splits").error.endswith(
        "--splits FILES: is for draws; add --shots, such as 100%\n"
    )
    for option, value in (("--splits", "random"), ("--folds", 3)):
        refused = fsiqa("data", "split", "agiqa3k", "--root", agiqa, option, value, "--out", tmp_path / "no")
        assert f"{option}: this command draws splits by chance" in refused.error
    table = pd.read_csv(files[0])
    table.loc[table.part == "test", "part"] = ["train", *["test"] * (sum(table.part == "test") - 1)]
    table.to_csv(files[0], index=False)
    with pytest.raises(InputError, match=r"agiqa3k-0\.csv: the group 'prompt \d+' is on both sides"):
        read_source("agiqa3k", root=agiqa, splits=str(files[0]))


def test_splits_of_liqe_and_arniqa_are_read(tmp_path):
    root = tmp_path / "kadid10k"
    root.mkdir()
    count = releases.kadid10k(root)
    records = read_source("kadid10k", root=root).records
    lists = tmp_path / "liqe"
    for number in (1, 2, 10):
        (lists / str(number)).mkdir(parents=True)
        tested = f"I0{1 + number % 3}"
        for part in ("train", "test"):
            rows = [r.path.name for r in records if (r.path.name[:3] == tested) == (part == "test")]
            lines = [f"images/{name}\t4.5\tgaussian blur\tanimal\tinvalid\tinvalid\n" for name in rows]
            (lists / str(number) / f"kadid10k_{part}_clip.txt").write_text("".join(lines))
    rated = read_source("kadid10k", root=root, splits=str(lists))
    assert [{r.path.name[:3] for r in test} for _, test in rated.splits] == [{"I02"}, {"I03"}, {"I02"}]

    rows = tmp_path / "arniqa"
    rows.mkdir()
    np.save(rows / "train.npy", np.array([[*range(8), -1], [*range(4, 12), -1]]))
    np.save(rows / "test.npy", np.array([[*range(8, 12)], [*range(4)]]))
    np.save(rows / "val.npy", np.full((2, 1), -1))
    rated = read_source("kadid10k", root=root, splits=str(rows))
    assert [len(pool) + len(test) for pool, test in rated.splits] == [count, count]
    assert {r.path.name[:3] for r in rated.splits[1][1]} == {"I01"}
    np.save(rows / "test.npy", np.array([[8, 99], [0, 1]]))
    with pytest.raises(InputError, match=r"test\.npy: names the row 99, but the last is 11"):
        read_source("kadid10k", root=root, splits=str(rows))
    koniq = tmp_path / "koniq"
    koniq.mkdir()
    releases.koniq10k(koniq)
    with pytest.raises(InputError, match="row numbers are known of the label files of kadid10k, tid, spaq, flive"):
        read_source("koniq10k", root=koniq, splits=str(rows))
    with pytest.raises(InputError, match=r"no \.csv, test\.npy or \*test\*\.txt in it"):
        read_source("kadid10k", root=root, splits=str(root / "images"))


def test_a_model_of_the_same_pictures_is_told(tmp_path, miniature):
    """KonIQ++ rates KonIQ-10k's pictures again."""
    first, second = tmp_path / "koniq", tmp_path / "koniqpp"
    first.mkdir()
    releases.koniq10k(first)
    options = {"overrides": [f"clip={miniature}", "views={crop: 32, count: 1}"], "out": tmp_path / "out"}
    fewshot_iqa.adapt("gp", task="koniq10k", root=first, **options)
    shutil.copytree(first, second)
    releases.koniqpp(second)
    with pytest.warns(fewshot_iqa.InputWarning, match="learned from koniq10k, which has all pictures in common"):
        fewshot_iqa.evaluate(tmp_path / "out", task="koniq++", root=second)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.png,trian\nb.png,test\n", r"row 2: the part is 'trian', not train, training, val, validation, test"),
        ("a.png,train\na.png,test\n", r"row 3: a\.png is of test, and of train before"),
        ("x.png,train\ny.png,test\n", "names none of the pictures"),
    ],
)
def test_files_of_splits_that_are_wrong(rated, tmp_path, rows, message):
    (tmp_path / "s.csv").write_text("image,part\n" + rows)
    with pytest.raises(InputError, match=message):
        read_source(None, labels=rated, splits=str(tmp_path / "s.csv"))


def test_a_split_that_is_not_there_is_refused(tmp_path, agiqa):
    with pytest.raises(InputError, match=r"--splits splitz: no such split.* or give the path of split files"):
        read_source("agiqa3k", root=agiqa, splits="splitz")
    root = tmp_path / "biq"
    root.mkdir()
    releases.biq2021(root)
    assert len(read_source("biq2021", root=root, splits="random").records) == 12
    files = datasets.split(tmp_path / "splits", "biq2021", seeds=2, root=root)
    again = read_source("biq2021", root=root, splits=str(files[1]))
    assert sum(map(len, again.splits[0])) == 12


def test_evaluation_on_a_file_of_a_split(tmp_path, agiqa, miniature):
    files = datasets.split(tmp_path / "splits", "agiqa3k", seeds=2, root=agiqa)
    options = {"overrides": [f"clip={miniature}", "views={crop: 32, count: 1}"], "out": tmp_path / "out"}
    fewshot_iqa.adapt("gp", task="agiqa3k", root=agiqa, **options)
    tested = (pd.read_csv(files[0]).part == "test").sum()
    found = fewshot_iqa.evaluate(tmp_path / "out", task="agiqa3k", root=agiqa, splits=str(files[0]))
    assert found.metrics["pictures"] == tested < 12
    with pytest.raises(InputError, match="there are 2 splits; name one file"):
        fewshot_iqa.evaluate(tmp_path / "out", task="agiqa3k", root=agiqa, splits=str(tmp_path / "splits"))


def test_a_table_in_the_root_comes_before_one_in_the_working_directory(tmp_path, monkeypatch):
    for name, maker in (("tid2013", releases.tid), ("tid2008", lambda root: releases.tid(root, 17, 4))):
        (tmp_path / name).mkdir()
        maker(tmp_path / name)
    text = (tmp_path / "tid2008" / "mos_with_names.txt").read_text()
    (tmp_path / "tid2008" / "mos_with_names.txt").write_text(text.replace("6.5", "2.5"))
    monkeypatch.chdir(tmp_path / "tid2008")
    assert max(r.rating for r in read_source("tid2013", root=tmp_path / "tid2013").records) == 6.5


def test_deviations_of_another_column_are_not_read(tmp_path):
    root = tmp_path / "koniqpp"
    root.mkdir()
    releases.koniqpp(root)
    with pytest.warns(fewshot_iqa.InputWarning, match="'sd' and 'votes' belong to 'qmos', and are not read for 'blur'"):
        rated = read_source("koniq++", root=root, score_column="blur", lower_is_better=True, range=(0, 1))
    assert {(record.rating_std, record.votes) for record in rated.records} == {(None, None)}
