"""The scores of the shipped prompts for six photographs that come with the dependencies.

The values are printed by

    python -m tests.test_golden_scores
"""

import numpy as np
import pytest
import torch
from PIL import Image

import fewshot_iqa
from fewshot_iqa.data.synthetic import wheel_photograph

GOLDEN = {
    "astronaut": 0.77308,
    "chelsea": 0.82410,
    "coffee": 0.84884,
    "rocket": 0.87814,  # through its profile, Adobe RGB
    "china": 0.82067,
    "grace_hopper": 0.68567,
}


@pytest.fixture(scope="module")
def scorer():
    return fewshot_iqa.load(device="cpu")


def test_the_shipped_prompts_score_as_they_did(scorer):
    scores = scorer.score([wheel_photograph(name) for name in GOLDEN])
    assert dict(zip(GOLDEN, scores, strict=True)) == pytest.approx(GOLDEN, abs=1e-3)


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_a_picture_scores_the_same_whatever_it_comes_in(scorer, name):
    path = wheel_photograph(name)
    expected = pytest.approx(scorer.score(path), abs=1e-5)
    with Image.open(path) as image:
        array = np.asarray(image)
        tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
        singles = (path, str(path), image, array, array / 255, array.astype(np.uint16) * 257, tensor, tensor / 255)
        for source in singles:
            assert scorer.score(source) == expected
        several = scorer.score([path, image, array, tensor])
        assert several == [expected] * 4
        assert scorer.score(torch.stack([tensor, tensor]) / 255) == [expected] * 2


if __name__ == "__main__":
    for name, quality in zip(
        GOLDEN, fewshot_iqa.load(device="cpu").score(list(map(wheel_photograph, GOLDEN))), strict=True
    ):
        print(f"{name} {quality:.5f}")
