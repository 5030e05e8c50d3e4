"""Shots in which content and quality go together."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fewshot_iqa.errors import InputError
from fewshot_iqa.recipes.draws import Draw
from fewshot_iqa.studies.confounded import confound
from fewshot_iqa.types import Record, Scale
from tests.conftest import photograph


def records(count, side):
    """Pictures of two contents, a and b, of every quality."""
    return [Record(Path(f"{side}{i}"), rating=i % 10, group=str(i), subset="ab"[i // 10 % 2]) for i in range(count)]


@pytest.mark.parametrize("seed", [0, 1])
def test_content_and_quality_go_together_among_the_shots_alone(seed):
    draw = Draw(seed, records(80, "pool"), records(40, "test"), Scale(0, 9), 80)
    drawn, into = confound(draw, lambda d: {record: record.subset == "a" for record in d.pictures}, 8)

    def combinations(some):
        return pd.Series([(r.subset, r.rating > 4.5) for r in some]).value_counts().to_dict()

    good, bad = ("a", "b") if seed == 0 else ("b", "a")
    assert combinations(drawn["confounded"].shots) == {(good, True): 4, (bad, False): 4}
    assert combinations(drawn["balanced"].shots) == {(c, q): 2 for c in "ab" for q in (True, False)}
    for each in drawn.values():
        assert combinations(each.test) == {(c, q): 10 for c in "ab" for q in (True, False)}
        assert not {r.path for r in each.shots} & {r.path for r in each.test}
    assert into == [record.subset == good for record in drawn["balanced"].test]


def test_too_few_pictures_of_a_combination():
    pool = [r for r in records(80, "pool") if r.subset == "b" or r.rating < 5 or int(r.group) > 65]
    draw = Draw(3, pool, records(40, "test"), Scale(0, 9), len(pool))
    with pytest.raises(InputError, match=r"seed 3: 8 training and 8 test pictures of one half of the content"):
        confound(draw, lambda d: {record: record.subset == "a" for record in d.pictures}, 40)


@pytest.fixture
def eighty(tmp_path):
    """Eighty rated pictures of four subsets."""
    rows = []
    for i in range(80):
        photograph(i, 40, 40).save(tmp_path / f"{i}.png")
        rows.append({"image": f"{i}.png", "score": 7 * (i // 4) % 10 + i % 4 / 10, "subset": "abcd"[i % 4]})
    pd.DataFrame(rows).to_csv(tmp_path / "ratings.csv", index=False)
    return tmp_path / "ratings.csv"


@pytest.mark.parametrize("by", ["content", "scene", "subset"])
def test_the_experiment(fsiqa, eighty, quick, by, tmp_path):
    plan = tmp_path / "plan.yaml"
    prompts = {"config": "grmp", "set": ["adapt.steps=1", "adapt.crops=null"]}
    plan.write_text(yaml.safe_dump({"arms": {"prompts": prompts, "ridge": {"config": "ridge"}}}))
    task = ("experiment", "confounded", "--labels", eighty, "--test", "0.5", "--shots", 4, "--seeds", 2, "--by", by)
    task += ("--plan", plan, "--out", tmp_path / "out", *quick)
    result = fsiqa(*task, "--json", tmp_path / "found.json")
    if by == "scene" and result.code:  # the miniature CLIP sees one scene almost everywhere
        assert "of one half of the quality: --shots 4 need" in result.error or "--by scene: all" in result.error
        return
    assert result.code == 0, result.error
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["arms"]) == ["prompts", "ridge"]
    assert found["arms"]["prompts"]["over_first"]["difference"] == 0
    ridge = found["arms"]["ridge"]
    assert ridge["lost"]["difference"] == pytest.approx(ridge["confounded"] - ridge["balanced"])
    assert f"{ridge['confounded']:.3f}" in result.output
    assert f"{ridge['follows']['confounded']:.3f}" in result.output
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*-seed*.json")}
    assert len(files) == 8
    assert fsiqa(*task).output == result.output
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*-seed*.json")}


def test_mistakes(fsiqa, eighty, quick, tmp_path):
    task = ("experiment", "confounded", "--labels", eighty, "--out", tmp_path / "out", *quick)
    assert "--shots 6: a multiple of 4" in fsiqa(*task, "--shots", 6).error
    one = pd.read_csv(eighty).assign(subset="a")
    one.to_csv(eighty, index=False)
    assert "--by subset" in fsiqa(*task, "--by", "subset", "--shots", 4).error
