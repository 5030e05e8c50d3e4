"""Splits, shots, episodes, synthetic records, loading."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fewshot_iqa.config import (
    EpisodeSpec,
    SyntheticTask,
    TableTask,
    ViewSpec,
    kadid_mos_table,
    load_task,
    with_overrides,
)
from fewshot_iqa.data.episodes import meta_tasks, sample_episodes
from fewshot_iqa.data.loading import Loader, PictureCache
from fewshot_iqa.data.readers import read_table
from fewshot_iqa.data.synthetic import KADID_SCALE, kadid_mos, synthetic_records
from fewshot_iqa.distortions import DISTORTIONS
from fewshot_iqa.errors import InputError
from fewshot_iqa.recipes.sources import read_rated
from fewshot_iqa.rng import generator

DATA = os.environ.get("FSIQA_DATA")


@pytest.fixture
def task(photographs):
    return SyntheticTask(
        kind="synthetic", description="", root=photographs, distortions=["jpeg", "white_noise"], short_side=40
    )


@pytest.fixture
def loader():
    return Loader(ViewSpec(crop=32, short_side=40), KADID_SCALE, source_side=40)


def test_synthetic_records_are_rated_by_kadid_mos(task):
    found = synthetic_records(task)
    assert len(found) == 6 * 2 * 5
    record = next(r for r in found if (r.distortion, r.level) == ("jpeg", 4))
    assert record.rating == kadid_mos_table()["jpeg"][3]
    assert record.apply == (("jpeg", 4),)


def test_the_kadid_mos_table_has_every_type_in_order():
    means = kadid_mos_table()
    assert list(means) == [row.name for row in DISTORTIONS]
    assert all(len(levels) == 5 and 1 <= min(levels) <= max(levels) <= 5 for levels in means.values())


@pytest.mark.skipif(not DATA, reason="FSIQA_DATA names no folder of data")
def test_the_kadid_mos_table_is_that_of_the_label_file():
    table = pd.read_csv(Path(DATA) / "labels" / "kadid10k_image_labeled_by_per_noise.csv")
    table[["id", "level"]] = table.image.str.extract(r"I\d+_(\d+)_(\d+)\.png").astype(int)
    means = table.groupby(["id", "level"]).dmos.mean().round(4)
    for row in DISTORTIONS:
        assert kadid_mos_table()[row.name] == [means[row.id, level] for level in range(1, 6)]


def test_support_and_query_share_no_photograph(task):
    seen = []

    class Spy:
        def random_batch(self, chosen, _noise):
            seen.append(chosen)

    tasks = meta_tasks(synthetic_records(task), task, seed=0)
    spec = EpisodeSpec(tasks_per_step=5, support=7, query=3)
    episodes = list(sample_episodes(tasks, Spy(), spec, noise=generator(0, "e")))
    assert sorted(episode.name for episode in episodes) == ["jpeg", "white_noise"]
    for support, query in zip(seen[::2], seen[1::2], strict=True):
        assert (len(support), len(query)) == (7, 3)
        assert not {r.group for r in support} & {r.group for r in query}
        assert len({r.distortion for r in support + query}) == 1


def test_an_episode_needs_two_photographs(task, loader):
    lonely = [r for r in synthetic_records(task) if r.path.stem == "photo0"]
    with pytest.raises(InputError, match="one photograph only"):
        meta_tasks(lonely, task, seed=0)


def test_compounds_are_tasks_of_their_own_and_never_of_what_is_held_out(task):
    kinds = [row.name for row in DISTORTIONS[:6]]
    wide = with_overrides(task, distortions=kinds, hold_out=["jpeg", kinds[0]], compounds=7)
    found = synthetic_records(wide)
    compounds = {r.distortion for r in found if len(r.apply) > 1}
    assert len(compounds) == 7
    assert not any(kinds[0] in name.split("+") for name in compounds)
    assert compounds == {r.distortion for r in synthetic_records(wide) if len(r.apply) > 1}
    record = next(r for r in found if len(r.apply) > 1 and r.level == 5)
    assert record.distortion == "+".join(name for name, _ in record.apply)
    assert [level for _, level in record.apply] == [3, 3]
    alone = [kadid_mos(name, 3, normalize=True) for name, _ in record.apply]
    assert KADID_SCALE.quality(record.rating) <= min(alone) + 1e-12
    assert len(meta_tasks(found, wide, seed=0)) == 6 + 7
    with pytest.raises(InputError, match="5 distortions make 20 pairs"):
        synthetic_records(with_overrides(wide, compounds=21))


def test_photographs_are_grouped_by_content(tmp_path, task):
    for i, shade in enumerate([250, 10, 20, 240, 30, 230]):
        Image.new("RGB", (64, 48), (shade, shade, shade)).save(tmp_path / f"{i}.png")
    several = with_overrides(task, root=tmp_path, contents=2)
    tasks = meta_tasks(synthetic_records(several), several, seed=0)
    assert len(tasks) == 2 * 2
    light, dark = {"0.png", "3.png", "5.png"}, {"1.png", "2.png", "4.png"}
    for made in tasks:
        assert {r.path.name for records in made.photographs for r in records} in (light, dark)
    with pytest.raises(InputError, match=r"lower task\.contents"):
        meta_tasks(synthetic_records(several), with_overrides(several, contents=6), seed=0)


def test_label_noise_has_its_deviation_and_stays_on_the_scale(task):
    noisy = with_overrides(task, label_noise=0.5)
    clean = synthetic_records(noisy)
    made = [r for t in meta_tasks(clean, noisy, seed=0) for records in t.photographs for r in records]
    again = [r for t in meta_tasks(clean, noisy, seed=0) for records in t.photographs for r in records]
    assert made == again
    key = {(r.path, r.distortion, r.level): r.rating for r in clean}
    moved = torch.tensor([r.rating - key[r.path, r.distortion, r.level] for r in made])
    assert 0.3 < moved.std() < 0.6
    assert all(1 <= r.rating <= 5 for r in made)


def test_an_episode_shows_so_many_levels(task):
    seen = []

    class Spy:
        def random_batch(self, chosen, _noise):
            seen.append({r.level for r in chosen})

    tasks = meta_tasks(synthetic_records(task), task, seed=0)
    list(
        sample_episodes(
            tasks, Spy(), EpisodeSpec(tasks_per_step=2, support=20, query=5, levels=2), noise=generator(0, "e")
        )
    )
    for support, query in zip(seen[::2], seen[1::2], strict=True):
        assert support == query
        assert len(support) == 2
    with pytest.raises(InputError, match=r"episodes\.levels is 3, but there are 2"):
        load_task("synthetic", ["levels=[1, 5]", "episodes.levels=3"])


def test_batches(task, loader):
    chosen = synthetic_records(task)[:3]
    batch = loader.random_batch(chosen, generator(0, "b"))
    assert batch.inputs.shape == (3, 3, 32, 32)
    assert batch.inputs.dtype == torch.uint8
    torch.testing.assert_close(batch.targets["quality"], torch.tensor([(r.rating - 1) / 4 for r in chosen]))
    (fixed,) = loader.fixed_batches(chosen)
    assert fixed.inputs.shape == (3, 5, 3, 32, 32)
    assert fixed.targets["quality"].shape == (3,)


def test_the_cache_forgets_but_never_changes_a_picture(task):
    roomy, tight = (
        Loader(ViewSpec(crop=32), KADID_SCALE, source_side=40, pictures=PictureCache(limit)) for limit in (1 << 30, 1)
    )
    for record in [*synthetic_records(task)[:6]] * 2:
        assert np.array_equal(roomy.picture(record), tight.picture(record))


def test_a_cache_of_pictures_is_bounded_and_keeps_those_used_last():
    cache, pictures = PictureCache(limit=3 * 12), [np.full((3, 2, 2), i, np.uint8) for i in range(4)]
    for i in (0, 1, 2):
        cache.put(i, pictures[i])
    assert cache.get(0) is pictures[0]
    cache.put(3, pictures[3])
    assert [i for i in range(4) if cache.get(i) is not None] == [0, 2, 3]
    cache.put("large", np.zeros((3, 9, 9), np.uint8))
    assert cache.get("large") is None
    assert cache.get(3) is not None


def test_tables_with_other_names_and_optional_columns(table):
    path = table(
        [
            {"file": "photo0.png", "MOS": 3, "group": "a", "scene": "animal;plant", "prompt": "a cat"},
            {"file": "photo1.png", "MOS": 4, "group": "a", "scene": "", "prompt": ""},
            {"file": "photo2.png", "MOS": 1, "group": "", "scene": "", "prompt": "a 007"},
            {"file": "photo3.png", "MOS": 2, "group": "", "scene": "", "prompt": ""},
        ]
    )
    columns = {"image": "file", "score": "MOS"}
    task = TableTask(kind="table", description="", root=path.parent, labels=path, columns=columns)
    first, second, third, fourth = read_table(task)
    assert (first.rating, first.group, first.scene, first.prompt) == (3, "a", ("animal", "plant"), "a cat")
    assert (second.scene, second.prompt, second.distortion) == ((), None, None)
    assert (third.group, fourth.group) == ("a 007", "photo3.png")


@pytest.mark.parametrize(
    "text",
    [
        "image,score\nphoto0.png,1\n\nphoto1.png,2\n",
        "image,score\nphoto0.png,1,\nphoto1.png,2,\n",
        "image;score\nphoto0.png;1\nphoto1.png;2\n",
        "\ufeffimage\tscore\r\nphoto0.png\t1\r\nphoto1.png\t2\r\n",
        'image, score\n"photo0.png", 1\nphoto1.png, 2.0\n',
    ],
)
def test_tables_as_programs_write_them(table, text):
    path = table([])
    path.write_text(text, encoding="utf-8", newline="")
    found = read_table(TableTask(kind="table", description="", labels=path))
    assert [(r.path.name, r.rating) for r in found] == [("photo0.png", 1), ("photo1.png", 2)]


def test_a_row_is_counted_as_an_editor_does(table):
    path = table([])
    path.write_text("image,score\nphoto0.png,1\n\nphoto1.png,bad\n")
    with pytest.raises(InputError, match="row 4: the score is 'bad'"):
        read_table(TableTask(kind="table", description="", labels=path))


def test_a_score_outside_of_the_stated_range(rated):
    with pytest.raises(InputError, match="row 4: the score 25 lies outside"):
        read_table(TableTask(kind="table", description="", labels=rated, range=(0, 20)))


def test_a_release_with_test_rows_of_its_own(tmp_path, photographs):
    (tmp_path / "Images").symlink_to(photographs)
    for name, rows in (("Train", (0, 1, 2, 3)), ("Test", (4, 5))):
        lines = [f"photo{i}.png,0.{i},," for i in rows]
        (tmp_path / f"{name} (Images and MOS).csv").write_text("\n".join(["Image Name,MOS,,", *lines]))
    found = read_rated(with_overrides(load_task("biq2021"), root=tmp_path))
    assert [record.rating for record in found.records] == [0.0, 0.1, 0.2, 0.3]
    assert [record.rating for record in found.test] == [0.4, 0.5]


@pytest.mark.skipif(not DATA, reason="FSIQA_DATA names no folder of data")
def test_a_released_table_is_read_as_it_is():
    found = read_rated(with_overrides(load_task("biq2021"), root=Path(DATA) / "biq2021"))
    assert (len(found.records), len(found.test)) == (2000, 500)
    assert {record.subset for record in found.test} == {"ss01", "ss02", "ss03"}


@pytest.mark.parametrize("name", ["demo", "synthetic"])
def test_shipped_photographs_exist(name):
    assert all(record.path.is_file() for record in synthetic_records(load_task(name)))


def test_the_demo_shows_nothing_that_meta_training_saw():
    assert not set(load_task("demo").photographs) & set(load_task("synthetic").photographs)
