"""The page on a head and a loss of one's own: its code runs as it stands."""

import os
import re
from pathlib import Path

import pytest
import torch

import fewshot_iqa
from tests.conftest import photograph

PAGE = Path(fewshot_iqa.__file__).parent.parent / "docs" / "extending.md"


@pytest.fixture
def ratings(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(8):
        photograph(i, 64, 72).save(tmp_path / "photos" / f"photo{i}.png")
    lines = [f"photo{i}.png,{1 + i % 5}" for i in range(8)]
    (tmp_path / "ratings.csv").write_text("\n".join(["image,score", *lines]) + "\n")


@pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
def test_the_page_runs(ratings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    head = blocks[0].split("\n\n\n")[1]
    assert head.startswith("class SVRHead")
    assert len(head.splitlines()) < 30
    exec("\n".join(blocks), names)
    fitted, loaded = fewshot_iqa.load("runs/svr", head=names["SVRHead"]()), names["model"]
    picture = os.path.join("photos", "photo3.png")
    assert fitted.score(picture) == pytest.approx(loaded.score(picture), abs=1e-6)
    assert len({round(score, 6) for score in loaded.score("photos")}) > 2
    with pytest.raises(fewshot_iqa.InputError, match=r"fitted with the head SVRHead; give it, as head=SVRHead\(\)"):
        fewshot_iqa.load("runs/svr")


@pytest.mark.parametrize(
    ("head", "message"), [(object(), "has no method fit"), (type("H", (), {"fit": print})(), "predict")]
)
@pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
def test_what_is_no_head_is_refused(ratings, head, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fewshot_iqa.InputError, match=message):
        fewshot_iqa.adapt(labels="ratings.csv", root="photos", head=head, range=(1, 5))


class Fixed:
    """Predicts the same of every picture."""

    def __init__(self, mean=0.5, std=None):
        self.mean, self.std = mean, std

    def fit(self, features, quality, *, groups=()):
        self.dim = features.dim
        assert features.embedding(next(iter(features.pooled))).shape[-1] == features.dim

    def predict(self, features):
        assert features.dim == self.dim
        std = None if self.std is None else torch.full((len(features),), self.std)
        return fewshot_iqa.Prediction(torch.full((len(features),), self.mean), std)


@pytest.fixture
def adapt(ratings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *more, **keys: fewshot_iqa.adapt(*more, labels="ratings.csv", root="photos", range=(1, 5), **keys)


@pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
def test_a_head_that_is_given_stays_as_it_is(adapt):
    head = Fixed(0.25)
    model = adapt(head=head, out="runs/one").model
    assert not hasattr(head, "dim")
    assert (
        model.score("photos/photo0.png") == fewshot_iqa.load("runs/one", head=head).score("photos/photo0.png") == 0.25
    )
    assert model.predict("photos/photo0.png").rating[0] == 2


@pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"head": Fixed(float("nan"))}, "finite"),
        ({"head": Fixed(0.5, -1.0)}, "negative std"),
        ({"head": Fixed}, r"is a class; give an object, Fixed\(\)"),
        ({"loss": lambda prediction, targets: prediction.mean.sum()}, "gp_prompts learns in closed form"),
        ({"config": "coop", "head": Fixed()}, "a term needs a branch"),
        ({"config": "coop", "loss": lambda prediction, targets: 1.0}, "a tensor of one number"),
    ],
)
def test_what_cannot_be_is_one_line(adapt, keys, message):
    with pytest.raises(fewshot_iqa.InputError, match=message):
        adapt(**keys)


@pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
def test_a_model_of_a_configuration_takes_no_head(adapt):
    adapt("ridge", out="runs/ridge")
    with pytest.raises(fewshot_iqa.InputError, match="was not fitted with a head from Python"):
        fewshot_iqa.load("runs/ridge", head=Fixed())
