"""Tables of papers on miniature data sets."""

import json

import pytest
import yaml

from fewshot_iqa.config import load_config, load_experiment
from fewshot_iqa.config.experiment import PaperSpec
from fewshot_iqa.recipes.curve import curve
from fewshot_iqa.recipes.sources import read_source
from fewshot_iqa.resources import available
from tests import releases

pytestmark = pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")


@pytest.mark.parametrize("name", available("configs/paper"))
def test_each_table_names_methods_and_tasks_that_are_there(name):
    table = load_experiment(f"paper/{name}", kind=PaperSpec)
    for row in table.rows:
        assert {row.task, row.tested_on} - {None} <= set(available("tasks"))
        for label, arm in table.methods.items():
            load_config(arm.config, [*arm.set, *row.set.get(label, ())])
    assert any(row.paper for row in table.rows)


@pytest.fixture
def data(tmp_path):
    for name in ("agiqa3k", "koniq10k", "koniq++"):
        (tmp_path / "data" / name).mkdir(parents=True)
    releases.agiqa3k(tmp_path / "data" / "agiqa3k")
    releases.koniq10k(tmp_path / "data" / "koniq10k")
    releases.koniqpp(tmp_path / "data" / "koniq++")
    return tmp_path / "data"


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "title": "a table",
                "source": "a paper; mean of 2 splits",
                "statistic": "mean",
                "seeds": 2,
                "methods": {"ours": {"config": "gp"}, "ridge": {"config": "ridge", "set": ["head.penalties=[1]"]}},
                "rows": [
                    {"task": "agiqa3k", "shots": "50%", "paper": {"ours": {"srcc": 0.87}}},
                    {"task": "koniq10k", "tested_on": "koniq++", "set": {"ours": ["head.linear=[1.0]"]}},
                    {"task": "livec"},
                ],
            }
        )
    )
    return path


def test_rows_whose_data_are_there_are_computed_beside_the_papers_numbers(fsiqa, data, paper, quick, tmp_path):
    files = ("--out", tmp_path / "out", "--json", tmp_path / "out.json")
    result = fsiqa("reproduce", paper, "--data", data, *quick, *files)
    assert result.code == 0, result.error
    found = json.loads((tmp_path / "out.json").read_text())
    first, across = found["rows"]
    assert (first["row"], first["shots"], across["row"]) == ("agiqa3k", "50%", "koniq10k -> koniq++")
    assert set(first["methods"]) == {"ours", "ridge", "subset mean"}
    assert first["methods"]["ours"]["paper"] == {"srcc": 0.87}
    assert first["methods"]["ours"]["trials"] == across["methods"]["ours"]["trials"] == 2
    assert across["labels"] == across["tested"] == 12
    assert all(-1 <= each["srcc"] <= 1 for row in found["rows"] for each in row["methods"].values())
    assert len(found["missing"]) == 1
    assert "missing: livec" in result.output
    assert "0.870" in result.output
    (first_cell,) = (tmp_path / "out" / "table").glob("0-agiqa3k*/ours-*seed0.json")
    written = first_cell.stat().st_mtime_ns
    again = fsiqa("reproduce", paper, "--data", data, *quick, *files)
    assert again.output == result.output
    assert first_cell.stat().st_mtime_ns == written
    paper.write_text(paper.read_text().replace("head.linear=[1.0]", "head.linear=[0.5]"))
    other = fsiqa("reproduce", paper, "--data", data, *quick, *files)
    assert (other.code, "holds results of another" in other.error) == (2, True), other.error


def test_the_plan_tells_labels_and_what_is_missing(fsiqa, data, paper):
    result = fsiqa("reproduce", paper, "--data", data, "--dry-run")
    assert result.code == 0, result.error
    assert "2 of 3 rows, each with 2 methods (ours, ridge) on 2 splits" in result.output
    assert "livec" in result.output
    assert "no such folder" in " ".join(result.output.split())
    for name in available("configs/paper"):
        assert name in fsiqa("reproduce", "--list").output


def test_mistakes_are_told(fsiqa, data, paper, quick):
    assert "Did you mean 'mp_iqe'" in fsiqa("reproduce", "mp_iq", "--data", data).error
    assert (
        "--methods our: no such method. Did you mean 'ours'?"
        in fsiqa("reproduce", paper, "--data", data, "--methods", "our", *quick).error
    )
    nothing = fsiqa("reproduce", paper, "--data", data / "none", *quick)
    assert "no such folder" in nothing.error
    assert "--dry-run" in nothing.error
    broken = yaml.safe_load(paper.read_text())
    broken["rows"][0]["paper"] = {"theirs": {"srcc": 0.9}}
    paper.write_text(yaml.safe_dump(broken))
    assert "'theirs' is none of the methods ours, ridge" in fsiqa("reproduce", paper, "--data", data).error


def test_released_protocols_take_their_splits_and_the_best_look_at_the_test(fsiqa, data, paper, quick, tmp_path):
    asked = ("reproduce", paper, "--data", data, *quick)
    assert "of 'a table' no code was released" in fsiqa(*asked, "--released").error
    spec = yaml.safe_load(paper.read_text())
    spec["released"] = {"splits": "sequential", "looks": 2}
    spec["methods"] = {"gradients": {"config": "coop", "set": ["adapt.steps=4"]}, "ridge": {"config": "ridge"}}
    spec["rows"] = [{"task": "agiqa3k", "shots": "50%"}]
    paper.write_text(yaml.safe_dump(spec))
    out = ("--out", tmp_path / "out", "--json", tmp_path / "out.json")
    tests = {
        released: fsiqa(*asked, *(["--released"] if released else []), "--dry-run").output.partition(" test images")[0]
        for released in (False, True)
    }
    fair, all_looks = (int(text.rpartition(" ")[2]) for text in tests.values())
    assert all_looks == 2 * fair  # two methods test once, one of them looks twice
    result = fsiqa(*asked, "--released", *out)
    assert result.code == 0, result.error
    assert "2 sequential splits" in result.output
    assert "best look srcc" in " ".join(result.output.split())
    assert "not a fair measurement" in result.output
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert row["methods"]["gradients"]["best_look"]["srcc"] >= row["methods"]["gradients"]["srcc"]
    assert "best_look" not in row["methods"]["ridge"]  # a closed form has one moment
    honest = fsiqa(*asked, *out)  # into a folder of its own
    assert honest.code == 0, honest.error
    assert "best look" not in honest.output


def test_looks_at_the_test_change_nothing_that_is_learned(eight, small, tmp_path):
    found = [
        curve("grmp", shots=4, labels=eight, seeds=1, start="none", overrides=small, out=tmp_path / str(n), looks=n)
        for n in (0, 3)
    ]
    found = [each["curve"]["grmp"]["4"]["trials"][0] for each in found]
    assert found[0]["srcc"] == found[1]["srcc"]
    assert found[0]["plcc"] == found[1]["plcc"]
    assert "best_look" not in found[0]
    assert found[1]["best_look"]["srcc"] >= found[1]["srcc"]
    assert found[1]["best_look"]["step"] in (1, 2, 3)


def test_a_sequential_split_tests_on_the_last_rows(rated):
    found = read_source(None, labels=rated, splits="sequential")
    names = [record.path.name for record in read_source(None, labels=rated, splits="random").records]
    assert [record.path.name for record in [*found.records, *found.test]] == names
    assert len(found.test) == round(0.2 * len(names))
