"""`fsiqa data`: info, check, convert, split; and splits that are read back."""

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


def test_a_converted_data_set_reads_back_to_the_same(agiqa, fsiqa, tmp_path):
    out = tmp_path / "labels.csv"
    result = fsiqa("data", "convert", "agiqa3k", "--root", agiqa, "--out", out)
    assert result.code == 0, result.error
    assert "--range 0,5" in result.output
    records = read_source("agiqa3k", root=agiqa).records
    again = read_source(None, labels=out, root=agiqa, range=(0, 5), overrides=["alignment_range=[0, 5]"]).records
    assert again == records
    live = tmp_path / "live"
    live.mkdir()
    releases.live(live)
    found = datasets.convert("live", root=live)
    assert found.options.endswith("--range -3,112 --lower-is-better")
    assert len(found.table) == 779


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
    rated = read_source("kadid10k", root=root, splits=str(rows))
    assert [len(pool) + len(test) for pool, test in rated.splits] == [count, count]
    assert {r.path.name[:3] for r in rated.splits[1][1]} == {"I01"}
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
