"""What a user types and reads: mistakes are refused before torch is imported, notes are one line."""

import json
import shutil
import subprocess
import sys

import pytest

from fewshot_iqa.config import load_config, load_task
from fewshot_iqa.errors import InputError
from fewshot_iqa.files import require_writable
from fewshot_iqa.recipes.starts import describe_start, find_method, find_start, read_settings
from fewshot_iqa.resources import METATRAINED, SHIPPED
from tests.conftest import sets

OTHER = {"description", "meta"}  # how the shipped prompts were trained is their own

LIGHT = """
import sys
from fewshot_iqa.cli import main
try:
    main()
finally:
    print("heavy:", *({"torch", "open_clip", "scipy", "sklearn", "matplotlib"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("adapt --labels ratings.cvs", "no such table. Did you mean 'ratings.csv'?"),
        ("adapt --labels ratings.csv --config gp_prompt", "Did you mean 'gp_prompts'?"),
        ("adapt --labels ratings.csv --image-column picture", "no column 'picture'"),
        ("adapt --labels ratings.csv --range 5,1", "--range 5,1"),
        ("adapt --labels ratings.csv --shots many", "--shots many"),
        ("adapt --labels ratings.csv --set adapt.learning_rate=1 --config grmp", "Did you mean 'adapt.lr'?"),
        ("adapt --labels ratings.csv --set task.tset=0.2", "Did you mean 'test'?"),
        ("adapt --labels ratings.csv --from runs/metatrian", "--from runs/metatrian: no such folder"),
        ("adapt --labels ratings.csv --from .", "not a checkpoint"),
        ("adapt --labels ratings.csv --out .", "holds something else"),
        ("adapt --labels ratings.csv --json no/such/x.json", "the folder no/such does not exist"),
        ("adapt --labels ratings.csv --csv .", "it is a folder"),
        ("adapt --task kadid", "Did you mean 'kadid10k'?"),
        ("curve --labels ratings.csv --methods gp,rigde", "Did you mean 'ridge'?"),
        ("curve --labels ratings.csv --methods gp --shots 5,x", "--shots x"),
        ("metatrain --images nowhere", "no such folder of photographs"),
        ("metatrain --config ridge", "no meta stage"),
        ("metatrain --set meta.stepz=1", "Did you mean 'meta.steps'?"),
        ("score runs/adpat .", "runs/adpat: no such file or folder"),
        ("score nowhere.png", "nowhere.png: no such file"),
        ("score photo0.png --csv no/such/x.csv", "the folder no/such does not exist"),
    ],
)
def test_mistakes_are_refused_before_torch_is_imported(rated, arguments, message):
    result = subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments.split()], cwd=rated.parent, capture_output=True, text=True
    )
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert result.stdout.strip() == "heavy:"
    assert not (rated.parent / "no").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adapt.learning_rate=1", "unknown key adapt.learning_rate. Did you mean 'adapt.lr'?"),
        ("meta.num_steps=1", "Did you mean 'meta.steps'?"),
        ("lr=1", "unknown key lr. Did you mean 'adapt.lr'?"),
        ("zzz=1", "unknown key zzz. Known: adapt, clip,"),
        ("adapt.lr=fast", "adapt.lr = 'fast': expected a number"),
        ("adapt.steps=1.5", "adapt.steps = 1.5: expected a whole number"),
        ("adapt.batch=0", "adapt.batch = 0: expected above 0"),
        ("adapt.optimizer=adm", "expected one of sgd, adam, adamw. Did you mean 'adam'?"),
        ("adapt.trainable=[]", "adapt.trainable = []: expected a list of at least 1"),
        ("adapt.trainable=text", "adapt.trainable = 'text': expected a list"),
        ("adapt=fast", "adapt = 'fast': expected keys and values"),
        ("views.crop=-1", "views.crop = -1: expected at least 16"),
        ("model.branches.quality.phrazes=[a, b]", "Did you mean 'model.branches.quality.phrases'?"),
        ("loss=[{king: mse}]", "unknown key loss.0.king. Did you mean 'loss.0.kind'?"),
        ("loss=[]", "loss: meta and adapt need at least one term"),
    ],
)
def test_messages_name_the_key_the_value_and_what_is_accepted(override, message):
    with pytest.raises(InputError) as refused:
        load_config("grmp", [override])
    assert str(refused.value).startswith(f"--set {override}: ")
    assert message in str(refused.value)


def test_a_method_without_gradients_has_no_section_adapt():
    with pytest.raises(InputError, match=r"--set adapt\.lr=1: this method has no section adapt \(it learns in closed"):
        load_config("gp_prompts", ["adapt.lr=1"])
    assert load_config("grmp_no_qgr", ["adapt.regularizer.strength=2"]).adapt.regularizer.strength == 2


def test_faults_of_tasks():
    for override, message in (
        ("range=[1]", "range: expected one value more"),
        ("range=[1, 2, 3]", r"range = \[1, 2, 3\]: expected a list of at most 2"),
        ("range=[5, 1]", r"the lowest and the highest are needed, such as \[1, 5\]"),
        ("columns.imag=a", r"Did you mean 'columns\.image'\?"),
        ("kind=tabel", "kind = 'tabel': expected one of table, synthetic"),
        ("test=2", "test = 2: expected below 1"),
    ):
        with pytest.raises(InputError, match=message):
            load_task("csv", [override])


def test_results_are_written_at_most_one_folder_deep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_writable(tmp_path / "runs" / "x.json")
    assert not (tmp_path / "runs").exists()
    for path in (tmp_path / "no" / "such" / "x.json", type(tmp_path)("/nowhere/x.json")):
        with pytest.raises(InputError, match="does not exist"):
            require_writable(path)


def test_where_prompts_come_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_start("shipped") == SHIPPED
    assert find_start("none") is find_start(None) is None
    assert find_method(None, None) == ("gp_prompts", "gp_prompts")
    shutil.copytree(SHIPPED, METATRAINED)
    assert find_method(None, None) == ("runs/metatrain", METATRAINED)
    settings, _ = read_settings(METATRAINED, None, None, [])
    assert settings.model_dump(exclude=OTHER) == load_config("gp_prompts").model_dump(exclude=OTHER)
    assert find_method("gp", None) == ("gp", "gp")
    assert find_method(None, "shipped") == ("shipped", SHIPPED)
    assert "found in the working directory; --from shipped" in describe_start(METATRAINED, named=False)
    assert describe_start(METATRAINED, named=True) == "starts from runs/metatrain"
    assert "shipped with this package" in describe_start(SHIPPED, named=False)


@pytest.fixture
def adapted(fsiqa, rated, small, monkeypatch):
    """Adapt to the six photographs by a closed form, in the folder of the table."""
    monkeypatch.chdir(rated.parent)
    clip = next(text for text in small if text.startswith("clip="))
    options = ["--config", "gp", "--shots", 3, *sets([clip, "views={short_side: 48, crop: 32, count: 5}"])]
    return lambda *more: fsiqa("adapt", "--labels", rated.name, *options, *more)


def test_a_checkpoint_is_not_replaced_without_a_word(adapted):
    first = adapted()
    assert first.code == 0, first.error
    assert "replacing" not in first.error
    assert "will replace runs/adapt (gp, 3 ratings, made 20" in adapted().error


def test_labels_imply_a_table_and_notes_are_plain_lines(adapted, rated):
    rated.write_text(rated.read_text().replace("image,score", "filename,mos"))
    result = adapted("--range", "0,100", "--json", "results/new.json")
    notes = [line for line in result.error.splitlines() if line.startswith("fsiqa: note: ")]
    assert notes[0] == "fsiqa: note: reading images from column 'filename', ratings from 'mos'"
    assert [note.split(" are ")[0] for note in notes[1:2]] == ["fsiqa: note: 3 ratings"]
    assert json.loads((rated.parent / "results" / "new.json").read_text())["task"] == "csv"
    assert json.loads((rated.parent / "runs/adapt/provenance.json").read_text())["scale"] == [0, 100]


def test_the_worst_are_listed_first(adapted, fsiqa, rated):
    assert adapted().code == 0
    (rated.parent / "broken.png").write_bytes(b"no image")
    listed = fsiqa("score", "runs/adapt", ".", "--sort", "--csv", "all.csv", "--json", "all.json")
    scores = json.loads((rated.parent / "all.json").read_text())["scores"]
    quality = [row["quality"] for row in scores]
    assert quality[:-1] == sorted(quality[:-1])
    assert quality[-1] is None
    assert listed.output.index(scores[0]["image"]) < listed.output.index(scores[1]["image"])
    rows = (rated.parent / "all.csv").read_text().splitlines()
    assert rows[0].startswith("image,quality,quality_std,rating,rating_std,note")
    assert [row.split(",")[0] for row in rows[1:]] == sorted(row["image"] for row in scores)
    fsiqa("score", "runs/adapt", ".", "--worst", 2, "--json", "two.json")
    assert json.loads((rated.parent / "two.json").read_text())["scores"] == scores[:2]


def test_lists_begin_with_what_most_need(fsiqa):
    def rows(command):
        listed = fsiqa(command).stdout.rpartition("──")[2].splitlines()
        return {line.split()[0]: line.split() for line in listed if line[2:3].strip()}

    assert next(iter(rows("tasks"))) == "csv"
    methods = rows("configs")
    assert next(iter(methods)) == "gp_prompts"
    assert methods["gp_prompts"][-3:] == ["seconds", "yes", "10+"]
    assert methods["grmp"][-3:] == ["minutes", "no", "10+"]
    assert methods["clip_iqa"][-3:] == ["none", "no", "0"]


@pytest.mark.parametrize("command", ["adapt", "curve", "score", "metatrain"])
def test_help_is_grouped_and_fits_a_screen(fsiqa, command):
    shown = fsiqa(command, "--help").stdout
    assert "Output" in shown
    assert len(shown.splitlines()) <= 50
