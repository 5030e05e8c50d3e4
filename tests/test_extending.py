"""The page on a head and a loss of one's own: its code runs as it stands."""

import os
import re
from pathlib import Path

import pytest

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


def test_the_page_runs(ratings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    head = blocks[0].split("\n\n\n")[1]
    assert head.startswith("class SVRHead")
    assert len(head.splitlines()) < 30
    with pytest.warns(fewshot_iqa.InputWarning, match="rating scale"):
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
def test_what_is_no_head_is_refused(ratings, head, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fewshot_iqa.InputError, match=message):
        fewshot_iqa.adapt(labels="ratings.csv", root="photos", head=head, range=(1, 5))
