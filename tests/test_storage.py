"""Checkpoints on disk: killed writers, full disks, folders of others, and two writers in one folder."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import fewshot_iqa
from fewshot_iqa.errors import InputError
from fewshot_iqa.files import require_room, writing
from fewshot_iqa.lock import require_no_writer, writing_alone
from fewshot_iqa.model.storage import read_file, replace_files
from fewshot_iqa.resources import NEXT, PART, is_checkpoint
from tests.conftest import sets
from tests.kills import contents, counts, forks, in_child, kill_points

EPISODES = ["task.distortions=[jpeg, darken]", "task.hold_out=[darken]", "task.levels=[1, 5]"]
EPISODES += ["task.episodes={tasks_per_step: 1, support: 2, query: 1}", "views.count=1"]


@pytest.fixture
def adapting(rated, quick):
    def command(out, seed):
        task = ("--labels", rated, "--shots", 3, "--seed", seed, "--out", out)
        return ["adapt", "--config", "ridge", *task, *quick]

    return command


@forks
@counts
def test_adapt_that_is_killed_leaves_a_checkpoint(fsiqa, adapting, rated, tmp_path, count):
    before, after, out = tmp_path / "before", tmp_path / "after", tmp_path / "out"
    assert fsiqa(*adapting(before, 0)).code == 0
    (before / "notes.txt").write_text("precious")
    assert fsiqa(*adapting(after, 1)).code == 0
    wanted = contents(after)
    shutil.copytree(before, out)
    changes = in_child(adapting(out, 1), out, None)
    for point in kill_points(count, changes):
        shutil.rmtree(out)
        shutil.copytree(before, out)
        assert in_child(adapting(out, 1), out, point) is None
        assert fsiqa("score", out, rated.parent / "photo0.png").code == 0, point
        assert fsiqa(*adapting(out, 1)).code == 0, point
        found = contents(out)
        assert found.pop("notes.txt") == b"precious"
        assert found.keys() == wanted.keys()
        assert found["weights.safetensors"] == wanted["weights.safetensors"]
        assert [path.name for path in out.iterdir() if path.is_dir()] == []


@forks
@counts
def test_metatrain_that_is_killed_goes_on(fsiqa, small, photographs, tmp_path, count):
    earlier, whole, out = tmp_path / "earlier", tmp_path / "whole", tmp_path / "out"
    command = ["metatrain", "--config", "grmp", "--images", photographs, *sets([*small, *EPISODES])]
    for folder, seed in ((earlier, 1), (whole, 0)):
        assert fsiqa(*command, "--seed", seed, "--out", folder).code == 0

    def restore():
        for end in ("", "-last"):
            shutil.rmtree(f"{out}{end}", ignore_errors=True)
            shutil.copytree(f"{earlier}{end}", f"{out}{end}")

    restore()
    command += ["--seed", 0, "--out", out]
    changes = in_child(command, out, None)
    resumed = 0
    for point in kill_points(count, changes):
        restore()
        assert in_child(command, out, point) is None
        assert fsiqa("score", out, photographs / "photo0.png").code == 0, point
        again = fsiqa(*command, "--resume")
        if again.code:  # killed before its first step was saved: the run before stands there, and is told apart
            assert "the interrupted run had another 'seed'" in again.error, point
            assert fsiqa(*command).code == 0
        resumed += not again.code
        for end in ("", "-last"):
            weights = [Path(f"{each}{end}/weights.safetensors").read_bytes() for each in (out, whole)]
            assert weights[0] == weights[1], (point, end)
    assert resumed


def test_the_best_weights_are_those_of_the_run_that_is_resumed(fsiqa, small, photographs, tmp_path):
    """What an earlier run has left beside it never gets into a resumed one."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = ["metatrain", "--config", "grmp", "--images", photographs, *sets([*small, *EPISODES])]
    assert fsiqa(*command, "--out", whole).code == 0
    assert fsiqa(*command, "--out", out, "--set", "meta.steps=1").code == 0
    assert {path.name for path in tmp_path.glob("out*")} == {"out", "out-last"}
    shutil.rmtree(out)
    assert fsiqa(*command, "--out", out, "--resume").code == 0
    assert contents(out)["weights.safetensors"] == contents(whole)["weights.safetensors"]
    (tmp_path / "out-last" / "state.safetensors").write_bytes(
        (tmp_path / "whole-last" / "state.safetensors").read_bytes()[:-4] + b"1234"
    )
    refused = fsiqa(*command, "--out", out, "--resume")
    assert refused.code == 2
    assert "state.safetensors: not readable as the file that provenance.json was written with" in refused.error
    for name in ("state.safetensors", "provenance.json"):
        (tmp_path / "out-last" / name).unlink()
    assert fsiqa(*command, "--out", out, "--resume").code == 2


@pytest.mark.parametrize("name", ["config.yaml", "weights.safetensors", "provenance.json"])
def test_readers_take_all_of_a_checkpoint_or_nothing(fsiqa, adapting, rated, tmp_path, name):
    """Decided, but not moved up yet, is read; half a copy is refused."""
    one, two = tmp_path / "one", tmp_path / "two"
    for out, seed in ((one, 0), (two, 1)):
        assert fsiqa(*adapting(out, seed)).code == 0
    expected = fewshot_iqa.load(two).score(rated.parent / "photo0.png")
    (one / NEXT).mkdir()
    for file in ("config.yaml", "weights.safetensors", "provenance.json"):
        (two / file).replace((one if file == name else one / NEXT) / file)
    assert fewshot_iqa.load(one).score(rated.parent / "photo0.png") == expected
    shutil.rmtree(one / NEXT)
    refused = fsiqa("score", one, rated.parent / "photo0.png")
    assert refused.code == 2
    assert refused.error.count("\n") == 1
    assert "not readable as the file that provenance.json was written with" in refused.error


def test_what_is_not_its_own_stays(fsiqa, adapting, tmp_path):
    out = tmp_path / "ad"
    assert fsiqa(*adapting(out, 0)).code == 0
    kept = [out / "scores.csv", tmp_path / "ad.old" / "notes.txt", tmp_path / "ad.part" / "thesis.tex"]
    for file in kept:
        file.parent.mkdir(exist_ok=True)
        file.write_text("precious")
    assert fsiqa(*adapting(out, 3)).code == 0
    assert [file.read_text() for file in kept] == ["precious"] * 3
    own = {"config.yaml", "weights.safetensors", "provenance.json", "pictures.csv", "scores.csv"}
    assert {path.name for path in out.iterdir()} == own


def test_a_folder_with_a_file_of_that_name_is_no_checkpoint(tmp_path):
    (tmp_path / "provenance.json").write_text("of another program")
    with pytest.raises(InputError, match="holds something else"):
        require_room(tmp_path)


def test_the_working_directory_and_the_longest_names(fsiqa, adapting, small, photographs, tmp_path, monkeypatch):
    longest = "n" * 252
    assert fsiqa(*adapting(tmp_path / longest, 0)).code == 0
    assert is_checkpoint(tmp_path / longest)
    too_long = fsiqa(*adapting(tmp_path / ("n" * 300), 0))
    assert (too_long.code, too_long.error.count("\n")) == (2, 1)
    assert "cannot be written" in too_long.error
    command = ["metatrain", "--images", photographs, "--config", "grmp", *sets(small)]
    assert "cannot be written" in fsiqa(*command, "--out", tmp_path / longest).error
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for seed in (0, 1):
        assert fsiqa(*adapting(".", seed)).code == 0
    assert is_checkpoint(tmp_path / "here")


def test_a_full_disk_leaves_the_earlier_checkpoint(fsiqa, adapting, small, photographs, rated, tmp_path, monkeypatch):
    out = tmp_path / "ad"
    assert fsiqa(*adapting(out, 0)).code == 0
    before = contents(out)
    metatrain = ["metatrain", "--config", "grmp", "--images", photographs, "--out", tmp_path / "meta"]
    real = Path.write_bytes

    def full(path, content):
        real(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for command in (adapting(out, 1), [*metatrain, *sets([*small, *EPISODES])]):
            result = fsiqa(*command)
            assert result.code == 2
            assert result.error.splitlines()[-1].endswith("cannot be written (No space left on device)")
    with monkeypatch.context() as patch:  # of the single files that pre-training writes

        def no_room(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", no_room)
        with pytest.raises(InputError, match="No space left"), writing(tmp_path / "state.bin", "wb") as file:
            file.write(b"1234")
    assert contents(out) == before
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & {"meta", "meta-last", "state.bin"}
    assert not any("state.bin" in name for name in left)
    assert fsiqa("score", out, rated.parent / "photo0.png").code == 0


def test_files_are_forced_to_the_disk_before_they_count(tmp_path, monkeypatch):
    order = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(Path, "rename", lambda *paths: (order.append("rename"), rename(*paths))[1])
    replace_files(tmp_path / "o", {"a": b"1", "b": b"2"})
    assert order.index("rename") >= 2
    assert (read_file(tmp_path / "o", "a", 1), read_file(tmp_path / "o", "b", 1)) == (b"1", b"2")
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"a", "b"}
    with pytest.raises(InputError, match="too much"):
        read_file(tmp_path / "o", "a", 0)


def test_leftovers_of_a_killed_writer_are_finished_or_dropped(tmp_path):
    (tmp_path / NEXT).mkdir()
    (tmp_path / NEXT / "a").write_bytes(b"decided")
    (tmp_path / PART).mkdir()
    (tmp_path / PART / "a").write_bytes(b"hal")
    require_room(tmp_path)
    replace_files(tmp_path, {"b": b"new"})
    assert contents(tmp_path) == {"a": b"decided", "b": b"new"}
    assert not (tmp_path / PART).exists()


HOLD = "import sys\nfrom pathlib import Path\nfrom fewshot_iqa.lock import writing_alone\n"
HOLD += "with writing_alone(Path(sys.argv[1])):\n    print(flush=True)\n    sys.stdin.read()\n"


def test_a_second_process_is_refused_at_once(fsiqa, adapting, tmp_path):
    out = tmp_path / "o"
    with subprocess.Popen([sys.executable, "-c", HOLD, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        line = f"fsiqa: --out {out}: another fsiqa (process {other.pid}) is writing there\n"
        assert fsiqa(*adapting(out, 0)).error == line
        assert not (out / "provenance.json").exists()
        other.kill()
    assert (out / ".fsiqa.lock").exists()  # of the dead: it blocks nobody
    require_no_writer(out)
    assert fsiqa(*adapting(out, 0)).code == 0
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_every_command_that_writes_a_folder_takes_its_lock(tmp_path):
    from fewshot_iqa.pretraining.recipe import pretrain
    from fewshot_iqa.recipes.papers import load_table, reproduce
    from fewshot_iqa.recipes.pictures import synthesize
    from fewshot_iqa.studies.ablation import ablation
    from fewshot_iqa.studies.confounded import confounded
    from fewshot_iqa.studies.meta_vs_none import meta_vs_none
    from fewshot_iqa.studies.standin import standin

    out = tmp_path / "o"
    runs = [
        lambda: fewshot_iqa.metatrain(out=out),
        lambda: fewshot_iqa.adapt(out=out),
        lambda: fewshot_iqa.curve(out=out),
        lambda: pretrain(tmp_path, out=out),
        lambda: synthesize(tmp_path, out),
        lambda: reproduce(load_table("grmp"), tmp_path, out=out),
        lambda: ablation("experiments/agiqa_standin", out=out),
        lambda: confounded(out=out),
        lambda: meta_vs_none(tmp_path, out=out),
        lambda: standin(tmp_path, out=out),
    ]
    with writing_alone(out):
        for run in runs:
            with pytest.raises(InputError, match=f"another fsiqa .process {os.getpid()}. is writing there"):
                run()
    assert not out.exists()
    with writing_alone(tmp_path / "o-last"), pytest.raises(InputError, match="o-last: another fsiqa"):
        fewshot_iqa.metatrain(out=out)
    assert not out.exists()


def test_a_lock_leaves_nothing_and_takes_nothing(tmp_path):
    with writing_alone(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()
    with writing_alone(tmp_path / "a"):
        (tmp_path / "a" / "result").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["result"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"), writing_alone(tmp_path / "file"):
        pass


def test_state_holds_the_best_weights(fsiqa, small, photographs, tmp_path):
    command = ["metatrain", "--config", "grmp", "--images", photographs, *sets([*small, *EPISODES])]
    assert fsiqa(*command, "--out", tmp_path / "o").code == 0
    best = load_file(tmp_path / "o" / "weights.safetensors")
    state = load_file(tmp_path / "o-last" / "state.safetensors")
    assert all(state[f"best.{name}"].equal(value) for name, value in best.items())
