"""Crops of a picture: where they lie, what they cover, and how maps of them are assembled."""

import numpy as np
import pytest
import torch

from fewshot_iqa import rng
from fewshot_iqa.config import ViewSpec
from fewshot_iqa.data.loading import Loader
from fewshot_iqa.images import assemble, fixed_views, shrink
from fewshot_iqa.types import Record, Scale


def test_crops_cover_a_picture_from_edge_to_edge():
    image = (np.arange(3 * 50 * 70).reshape(3, 50, 70) % 251).astype(np.uint8)
    views = ViewSpec(crop=32, stride=16)
    crops = fixed_views(image, views)
    assert crops.shape == (3 * 4, 3, 32, 32)  # 18 and 38 pixels beyond the crop
    assert np.array_equal(crops[0], image[:, :32, :32])
    assert np.array_equal(crops[-1], image[:, -32:, -32:])
    assert fixed_views(image[:, :32, :33], views).shape[0] == 2
    assert fixed_views(image[:, :32, :32], views).shape[0] == 1


def test_maps_cover_the_picture():
    views = ViewSpec(crop=32, stride=32)
    image = np.zeros((3, 48, 32), np.uint8)
    count = len(fixed_views(image, views))
    maps = np.arange(count * 4.0).reshape(count, 2, 2)
    whole = assemble(maps, image, views)
    assert whole.shape == (48, 32)
    assert whole[0, 0] == 0
    assert whole[47, 31] == 7
    assert whole[20, 0] == (2 + 4) / 2  # the second row of the first view, the first of the second


def test_eight_views_are_eight_places():
    image = np.broadcast_to(np.arange(64 * 96).reshape(1, 64, 96), (3, 64, 96))
    views = fixed_views(image, ViewSpec(crop=32, count=8))
    corners = {divmod(int(view[0, 0, 0]), 96) for view in views}
    assert corners == {(y, x) for y in (0, 16, 32) for x in (0, 32, 64)} - {(16, 32)}


def test_training_takes_several_views_of_a_picture(photographs):
    records = [Record(photographs / f"photo{i}.png", i, f"{i}") for i in range(2)]
    batch = Loader(ViewSpec(crop=32, random=3), Scale(0, 1)).random_batch(records, rng.generator(0))
    assert batch.inputs.shape == (6, 3, 32, 32)
    assert batch.targets["quality"].tolist() == [0, 0, 0, 1, 1, 1]
    assert not torch.equal(batch.inputs[0], batch.inputs[1])


def test_two_of_five_crops_show_more_of_the_picture():
    image = rng.generator(0)
    picture = torch.randint(0, 256, (3, 64, 96), generator=image, dtype=torch.uint8).numpy()
    views, same = ViewSpec(crop=32, wide_side=40), ViewSpec(crop=32)
    found, plain, small = fixed_views(picture, views), fixed_views(picture, same), shrink(picture, 40)
    for number in (0, 2, 3):
        assert np.array_equal(found[number], plain[number])
    assert np.array_equal(found[1], small[:, :32, :32])
    assert np.array_equal(found[4], small[:, -32:, -32:])
    maps = np.zeros((5, 2, 2))
    maps[1] = 1
    assert (assemble(maps, picture, views) > 0).mean() > 2 * (assemble(maps, picture, same) > 0).mean()
    assert np.array_equal(fixed_views(small, views), fixed_views(small, same))
    eight = ViewSpec(crop=32, wide_side=40, count=8)  # which has no effect there
    assert np.array_equal(fixed_views(picture, eight), fixed_views(picture, ViewSpec(crop=32, count=8)))


def test_a_size_below_the_crop_is_refused():
    with pytest.raises(ValueError, match=r"views\.wide_side"):
        ViewSpec(crop=32, wide_side=16)
