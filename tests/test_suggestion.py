"""Which pictures to rate next: against the definition, and from the command line."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fewshot_iqa.app.rating import rate
from fewshot_iqa.app.session import Session
from fewshot_iqa.errors import InputError
from fewshot_iqa.recipes.suggesting import suggest
from fewshot_iqa.suggestion import next_to_rate


def posterior(covariance, noise, rows):
    """The covariance after ratings of some rows, in one step."""
    known = covariance[np.ix_(rows, rows)] + noise * np.eye(len(rows))
    return covariance - covariance[:, rows] @ np.linalg.solve(known, covariance[rows])


def test_each_choice_leaves_the_least_variance():
    x = np.random.default_rng(0).normal(size=(25, 3))
    covariance = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    rated = [3, 11]
    chosen, deviation = next_to_rate(covariance, 0.2, 6, rated)
    np.testing.assert_allclose(deviation, np.sqrt(posterior(covariance, 0.2, rated).diagonal()))
    known = list(rated)
    for row in chosen:
        left = {j: posterior(covariance, 0.2, [*known, j]).trace() for j in range(25) if j not in known}
        assert left[row] == pytest.approx(min(left.values()))
        known.append(row)
    everything, _ = next_to_rate(covariance, 0.2, 100, rated)
    assert sorted([*everything, *rated]) == list(range(25))


@pytest.fixture
def alike(tmp_path):
    """Six pictures: four of them all but equal."""
    noise, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    base = noise.integers(0, 255, (300, 400, 3), dtype=np.uint8)
    for i in range(4):
        changed = base.copy()
        changed[i, :5] = 0
        Image.fromarray(changed).save(folder / f"alike{i}.png")
    smooth = Image.fromarray(base).resize((4, 3)).resize((400, 300), 3)
    smooth.save(folder / "smooth.png")
    Image.fromarray((base // 8).astype(np.uint8)).save(folder / "dark.png")
    return folder


def test_alike_pictures_are_suggested_once(fsiqa, alike, tmp_path):
    (alike / "broken.png").write_bytes(b"no picture")
    out, sheet = tmp_path / "suggested.csv", tmp_path / "sheet.jpg"
    result = fsiqa("suggest", alike, "-n", 3, "-o", out, "--sheet", sheet)
    assert result.code == 0, result.error
    assert "3 of 6 images" in result.output
    assert "broken.png: not an image" in result.error
    table = pd.read_csv(out)
    assert list(table) == ["image", "quality", "uncertainty"]
    assert sum(name.startswith("alike") for name in table["image"]) == 1
    assert table["quality"].between(0, 1).all()
    assert (table["uncertainty"] == 1).all()
    with Image.open(sheet) as drawn:
        assert drawn.size == (480, 176)

    (tmp_path / "rated.csv").write_text("image,rating\nalike0.png,3\n")
    more = suggest(alike, 10, rated=tmp_path / "rated.csv")
    assert (more.among, more.rated) == (6, 1)
    names = list(more.pictures["image"])
    assert set(names[:2]) == {"smooth.png", "dark.png"}
    assert sorted(names) == ["alike1.png", "alike2.png", "alike3.png", "dark.png", "smooth.png"]
    uncertainty = more.pictures.set_index("image")["uncertainty"]
    assert uncertainty["alike1.png"] < 0.7 < uncertainty["dark.png"]

    session = Session(list(table["image"]), tmp_path / "votes.csv", ordered=True)
    assert [trial.images[0] for trial in session.trials("ann")] == list(table["image"])


def test_mistakes(fsiqa, alike, tmp_path):
    (tmp_path / "others.csv").write_text("image,rating\nelsewhere.png,3\n")
    assert "names no picture of" in fsiqa("suggest", alike, "--rated", tmp_path / "others.csv").error
    (tmp_path / "all.csv").write_text(
        "image,rating\n" + "".join(f"{p.name},3\n" for p in alike.iterdir())  # equal ratings do not matter here
    )
    assert (
        "is rated already" in fsiqa("suggest", alike, "--rated", tmp_path / "all.csv", "-o", tmp_path / "x.csv").error
    )
    with pytest.raises(InputError, match=r"elsewhere\.png does not exist"):
        rate(alike, tmp_path / "votes.csv", suggested=tmp_path / "others.csv")
    assert not (tmp_path / "x.csv").exists()
