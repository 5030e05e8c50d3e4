"""Long commands that are killed: the one that is repeated ends as if nothing had been."""

import json
import re
import shutil

import pytest
from PIL import Image

from fewshot_iqa.recipes.trial import run_trial
from tests.conftest import photograph, sets
from tests.kills import contents, counts, forks, in_child, kills, written
from tests.test_pretraining import spec  # noqa: F401  # a fixture

pytestmark = forks
MEASURED = {"seconds", "peak_mb"}  # what differs between equal runs


@pytest.fixture
def survived(capsys, count, request):
    """Says at the end how many kills a command has survived."""
    found = []
    yield found
    if count > 2:
        with capsys.disabled():
            name = request.node.originalname.removeprefix("test_")
            print(f"\n{name}: {len(found)} of {count} kills survived, {sum(found)} of them with finished work kept")


def results(report):
    """The numbers of a report, but for those that are measured."""

    def without(value):
        if isinstance(value, dict):
            return {key: without(each) for key, each in value.items() if key not in MEASURED}
        return [without(each) for each in value] if isinstance(value, list) else value

    return without(json.loads(report.read_text()))


def assert_clean(*folders):
    """No temporary file of ours is left."""
    for folder in folders:
        assert [path.name for path in folder.rglob("*") if path.name.startswith(".") or "part" in path.suffix] == []


@pytest.fixture
def adapting(eight, quick, tmp_path):
    """`adapt` with four draws, into a folder and a report of this name."""

    def command(name, *more):
        files = ["--out", tmp_path / name, "--csv", tmp_path / f"{name}.csv", "--json", tmp_path / f"{name}.json"]
        table = ["--labels", eight, "--test", "0.5", "--shots", 3, "--seeds", 4]
        return ["adapt", "--config", "ridge", *table, *quick, *files, *more]

    return command


def kept_draws(out):
    """How many draws an interrupted `adapt` has kept."""
    return len(list(out.glob(".fsiqa-tested/*.json")))


@counts
def test_adapt(fsiqa, adapting, tmp_path, survived, count):
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert fsiqa(*adapting("whole")).code == 0
    changes = in_child(adapting("out"), out, None)
    for point, number in kills(count, changes):
        shutil.rmtree(out)
        for kind in ("csv", "json"):
            (tmp_path / f"out.{kind}").unlink(missing_ok=True)
        assert in_child(adapting("out"), out, point, number) is None
        done = kept_draws(out)
        again = fsiqa(*adapting("out"))
        assert again.code == 0, again.error
        assert (f"goes on: {done} of 4 draws were tested before" in again.error) == (done > 0)
        assert results(tmp_path / "out.json") == results(tmp_path / "whole.json")
        assert contents(out).keys() == contents(whole).keys()
        for name in ("weights.safetensors", "pictures.csv"):
            assert (out / name).read_bytes() == (whole / name).read_bytes()
        assert_clean(tmp_path)
        survived.append(done > 0)


def test_adapt_goes_on_with_what_is_the_same(fsiqa, adapting, eight, monkeypatch, tmp_path):
    """With other settings, ratings or pictures, a draw is tested anew."""
    trials, last = [], [3]

    def trial(method, draw, memory):
        trials.append(draw.seed)
        if trials == last:
            raise KeyboardInterrupt
        return run_trial(method, draw, memory)

    monkeypatch.setattr("fewshot_iqa.recipes.adaptation.run_trial", trial)
    last[:] = [1, 2, 3]
    assert fsiqa(*adapting("out")).code == 130
    assert kept_draws(tmp_path / "out") == 2
    shutil.copytree(tmp_path / "out", tmp_path / "kept")

    def redone(*more):
        trials.clear()
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "kept", tmp_path / "out")
        last[:] = []
        assert fsiqa(*adapting("out", *more)).code == 0
        assert not list((tmp_path / "out").glob(".*"))
        return trials

    assert redone("--seeds", 5) == [3, 4, 0]
    seeds = [trial["seed"] for trial in json.loads((tmp_path / "out.json").read_text())["trials"]]
    assert seeds == [0, 1, 2, 3, 4]
    assert redone("--set", "head.penalties=[1]") == [1, 2, 3, 0]
    text = eight.read_text()
    eight.write_text(re.sub(r"(?m)^(photo.*?\.png,)", r"\g<1>1", text))
    assert redone() == [1, 2, 3, 0]
    eight.write_text(text)
    for i in range(8):
        (tmp_path / f"photo{i}.png").unlink()  # a link to the photograph of other tests
        photograph(20 + i).save(tmp_path / f"photo{i}.png")
    assert redone() == [1, 2, 3, 0]


@counts
def test_curve(fsiqa, eight, quick, tmp_path, survived, count):
    coop = tmp_path / "coop.yaml"
    coop.write_text("description: quick\nbase: coop\nadapt: {steps: 2, batch: 4}\n")
    out, table = tmp_path / "out", ["--labels", eight, "--test", "0.5"]
    command = ["curve", "--methods", f"ridge,{coop}", "--shots", "2,3", "--seeds", 2, *table, *quick]
    assert fsiqa(*command, "--out", tmp_path / "whole", "--json", tmp_path / "whole.json").code == 0
    command += ["--out", out, "--json", tmp_path / "out.json"]
    changes = in_child(command, out, None)
    for point, number in kills(count, changes):
        shutil.rmtree(out)
        (tmp_path / "out.json").unlink(missing_ok=True)
        assert in_child(command, out, point, number) is None
        done = {name: when for name, when in written(out).items() if "-seed" in name and not name.startswith(".")}
        again = fsiqa(*command)
        assert again.code == 0, again.error
        assert done.items() <= written(out).items()
        assert results(tmp_path / "out.json") == results(tmp_path / "whole.json")
        assert contents(out).keys() == contents(tmp_path / "whole").keys()
        assert_clean(tmp_path)
        survived.append(bool(done))


@counts
def test_pretrain(fsiqa, photographs, spec, tmp_path, survived, count):  # noqa: F811
    out, earlier = tmp_path / "out", tmp_path / "earlier"
    stages = "stages=[{crop: 16, steps: 2, batch: 3}, {crop: 32, steps: 1, batch: 2}]"
    command = ["pretrain", "--root", photographs.parent, *sets([*spec, "save_every=1", stages])]
    short = sets(["stages=[{crop: 16, steps: 1, batch: 2}]"])
    assert fsiqa(*command, *short, "--out", earlier).code == 0
    assert fsiqa(*command, "--out", tmp_path / "whole").code == 0
    wanted = contents(tmp_path / "whole")
    command += ["--out", out]
    shutil.copytree(earlier, out)
    changes = in_child(command, out, None)
    for point, number in kills(count, changes):
        shutil.rmtree(out)
        shutil.copytree(earlier, out)
        assert in_child(command, out, point, number) is None
        again = fsiqa(*command, "--resume")
        if again.code:  # killed before its first step was saved: the run before stands there, and is told apart
            assert "the interrupted run had another 'stages'" in again.error
            assert fsiqa(*command).code == 0
        assert contents(out) == wanted
        assert_clean(out)
        survived.append(not again.code)


@counts
def test_synthesize(fsiqa, photographs, tmp_path, survived, count):
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = ["synthesize", photographs, "--types", "jpeg,white_noise", "--levels", "1,5"]
    assert fsiqa(*command, "-o", whole).code == 0
    wanted = contents(whole)
    command += ["-o", out]
    changes = in_child(command, out, None)
    for point, number in kills(count, changes):
        shutil.rmtree(out)
        assert in_child(command, out, point, number) is None
        done = {name: when for name, when in written(out).items() if not name.startswith(".")}
        assert {name: (out / name).read_bytes() for name in done}.items() <= wanted.items()
        assert fsiqa(*command).code == 0
        assert contents(out) == wanted
        assert {name: when for name, when in done.items() if name != "labels.csv"}.items() <= written(out).items()
        assert_clean(out)
        survived.append(bool(done))


@counts
def test_score(fsiqa, rated, quick, tmp_path, survived, count):
    model, pictures, out = tmp_path / "model", tmp_path / "set", tmp_path / "out"
    assert fsiqa("adapt", "--config", "ridge", "--labels", rated, *quick, "--out", model).code == 0
    pictures.mkdir()
    for i in range(40):
        photograph(i, 34, 36).save(pictures / f"{i:02}.png")
    (pictures / "07.png").write_bytes(b"no picture")
    Image.new("L", (20, 20)).save(pictures / "08.png")
    command = ["score", model, pictures, "--csv", out / "s.csv", "--json", out / "s.json"]
    assert fsiqa(*command).code == 0
    wanted = contents(out)
    shutil.rmtree(out)
    changes = in_child(command, tmp_path, None, reads=True)
    for point, number in kills(count, changes):
        shutil.rmtree(out)
        assert in_child(command, tmp_path, point, number, reads=True) is None
        done = 0
        if out.exists():
            shown = (out / "s.csv").read_bytes() if (out / "s.csv").exists() else b""
            assert wanted["s.csv"].startswith(shown)
            finished = shown == wanted["s.csv"] and not any(path.suffix == ".part" for path in out.iterdir())
            done = 0 if finished else max(0, shown.count(b"\n") - 1)
        again = fsiqa(*command)
        assert again.code == 0, again.error
        assert (f"goes on: {done} of 40 images were scored before" in again.error) == (done > 0)
        assert contents(out) == wanted
        assert_clean(out)
        survived.append(done > 0)
