"""Every error a user can cause is one line that says where and what to do, with exit status 2."""

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from fewshot_iqa.errors import InputError
from fewshot_iqa.images import prepare, read_image
from fewshot_iqa.types import Shots
from tests.conftest import photograph, sets


@pytest.fixture
def refused(fsiqa):
    """Run, and return the one line of the error."""

    def run(*arguments):
        result = fsiqa(*arguments)
        assert result.code == 2, result.output
        lines = [line for line in result.error.splitlines() if line.startswith("fsiqa: ")]
        errors = [line for line in lines if not line.startswith("fsiqa: note: ")]
        assert len(errors) == 1, result.error
        assert "Traceback" not in result.error
        return errors[0]

    return run


@pytest.fixture
def adapting(refused, small):
    def run(labels, *more):
        method = ("--config", "grmp", "--from", "none", *sets(small))
        return refused("adapt", "--task", "csv", "--root", labels.parent, "--labels", labels, *method, *more)

    return run


def six(**changes):
    """Six rows, the third one changed."""
    rows = [{"image": f"photo{i}.png", "score": 10 * i} for i in range(6)]
    rows[2] |= changes
    return rows


@pytest.mark.parametrize("shots", ["0%", "120%", "abc", "1", "-3", "nan%", "", "20 %%"])
def test_shots_that_make_no_sense(refused, shots):
    assert f"--shots {shots.strip()}" in refused("adapt", "--shots", shots)


def test_more_shots_than_pictures(adapting, rated):
    assert "--shots 50: the table has only 6 pictures" in adapting(rated, "--shots", 50)
    assert "the training pool holds only 5" in adapting(rated, "--shots", 6)


def test_columns_that_are_named_are_there(adapting, rated):
    for name in ("prompt", "scene", "subset"):
        message = adapting(rated, "--shots", 2, "--set", f"task.columns.{name}=nope")
        assert f"no column 'nope'. Columns: image, score; name yours with --set task.columns.{name}=COLUMN" in message


def test_too_small_a_share(adapting, rated):
    assert "at least two" in adapting(rated, "--shots", "10%")


def test_missing_table_folder_and_options(adapting, refused, rated, small):
    assert "no such table" in adapting(rated.parent / "other.csv")
    assert "--labels TABLE.csv" in refused("adapt", "--task", "csv", "--from", "none")
    assert "no such folder" in refused(
        "adapt", "--task", "csv", "--root", rated.parent / "nowhere", "--labels", rated, "--from", "none"
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (six(score=""), "row 4: the score is empty"),
        (six(score="good"), "row 4: the score is 'good', not a number"),
        (six(score="inf"), "row 4: the score is 'inf'"),
        (six(image="gone.png"), "row 4"),
        ([{"image": f"photo{i}.png", "score": 3} for i in range(6)], "every score equals 3"),
        ([{"image": f"photo{i}.png", "grade": i} for i in range(6)], "no column 'score' or the like"),
        ([{"imgae": f"photo{i}.png", "score": i} for i in range(6)], "Columns: imgae, score"),
        ([], "no rows"),
        ([{"image": f"photo{i}.png", "score": i, "group": "one"} for i in range(6)], "one group ('one')"),
    ],
)
def test_tables_that_cannot_be_learnt_from(adapting, table, rows, message):
    assert message in adapting(table(rows), "--shots", 2)


def test_broken_image_is_found_before_training(adapting, table, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but not really")
    assert "broken.png: not an image" in adapting(table(six(image="broken.png")), "--shots", "100%", "--range", "0,50")


def test_unknown_names(refused, fsiqa):
    assert "Did you mean 'grmp'?" in refused("metatrain", "--config", "grpm")
    assert "Did you mean 'synthetic'?" in refused("metatrain", "--task", "sinthetic")
    assert "other.yaml: no such file" in refused("metatrain", "--config", "other.yaml")
    assert "no folder" in refused("metatrain", "--images", "nowhere").replace("no such folder", "no folder")
    assert "not a table" in refused("metatrain", "--task", "csv")
    assert "Did you mean 'motorcycle'?" in refused("metatrain", "--set", "task.photographs=[motorcyle, coffee]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("meta.stepz=3", "unknown key meta.stepz. Did you mean 'meta.steps'?"),
        ("meta.steps=-3", "meta.steps = -3"),
        ("meta.steps=many", "meta.steps = 'many'"),
        ("meta", "expected dotted.key=value"),
        ("seed.deeper=1", "seed = {'deeper': 1}: expected a whole number"),
        ("meta.trainable=[vissual.*]", "'vissual.*' matches no parameter"),
        ("loss=[{kind: mse, branch: taste}]", "no branch is named 'taste'"),
        ("views.crop=64", "views"),
        ("task={distortions: [jpeg], hold_out: [jpeg]}", "unknown key"),
        ("task.hold_out=[haze]", "no distortion is named 'haze'"),
        ("task.levels=[6]", "levels.0 = 6"),
        ("task.levels=[]", "levels"),
        ("model.branches.quality.phrases=[good, fair, bad]", "not two phrases"),
        ("meta.inner_lr=1e30", "lower meta.inner_lr"),
        ("task.distortions=[jpegg]", "Did you mean 'jpeg'?"),
        ("ridge={}", "ridge is now called head"),
        ("loss=[]", "loss: meta and adapt need"),
        ("task.distortions=[tid2013/jpeg]", "KADID-10k does not have this type"),
    ],
)
def test_overrides_that_cannot_be(refused, small, photographs, tmp_path, override, message):
    command = (
        "metatrain",
        "--config",
        "grmp",
        "--images",
        photographs,
        "--out",
        tmp_path / "out",
        *sets([*small, override]),
    )
    assert message in refused(*command)


def test_clip_names_and_files(refused, miniature, tmp_path):
    assert "NAME:PRETRAINED" in refused("metatrain", "--clip", "huge")
    assert "Did you mean 'ViT-B-16'?" in refused("metatrain", "--clip", "ViT-B16:openai")
    assert "neither a file nor a pretrained tag" in refused("metatrain", "--clip", "ViT-B-16:openai-best")
    assert "QuickGELU" in refused("metatrain", "--clip", "ViT-B-16:openai")
    architecture, _, weights = miniature.rpartition(":")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nonsense")
    assert "broken.safetensors: not readable" in refused("metatrain", "--clip", f"{architecture}:{broken}")
    partial = load_file(weights)
    partial.pop("ln_final.bias")
    save_file(partial, tmp_path / "partial.safetensors")
    message = refused("metatrain", "--clip", f"{architecture}:{tmp_path / 'partial.safetensors'}")
    assert "it lacks ln_final.bias" in message


def test_checkpoints_that_do_not_fit(refused, fsiqa, small, photographs, tmp_path):
    out = tmp_path / "meta"
    task = ["task.distortions=[jpeg]", "task.hold_out=[]", "meta.steps=1"]
    assert fsiqa("metatrain", "--config", "grmp", "--images", photographs, "--out", out, *sets(small + task)).code == 0
    for wrong in ("runs/adpat", "runs/lr0.1"):
        assert f"{wrong}: no such file or folder" in refused("score", wrong, photographs)
    for order in ((photographs, out), (out / "weights.safetensors", photographs)):
        assert "name its folder first" in refused("score", *order)
    assert "has no unfinished run" in refused("metatrain", "--resume", "--out", tmp_path / "nothing")
    assert "figures are .png" in refused("score", out, photographs, "--map", tmp_path / "map.txt")
    assert "not a checkpoint" in refused("adapt", "--from", tmp_path, "--out", tmp_path / "a")
    demo = ("adapt", "--from", out, "--out", tmp_path / "a")
    assert "another architecture" in refused(*demo, "--set", "model.visual.main.length=3")
    assert "another architecture" in refused(*demo, "--set", "model.visual.main.end_norm=false")
    (out / "weights.safetensors").write_bytes(b"cut")
    assert "weights.safetensors: not readable" in refused("score", out, photographs)
    (out / "provenance.json").write_text("3")
    assert "provenance.json: not readable" in refused("score", out, photographs)
    (out / "provenance.json").unlink()
    assert "it holds no provenance.json" in refused("score", out, photographs)


def test_score_with_nothing_to_score(refused, fsiqa, small, photographs, tmp_path):
    out = tmp_path / "meta"
    task = ["task.distortions=[jpeg]", "task.hold_out=[]", "meta.steps=1"]
    assert fsiqa("metatrain", "--config", "grmp", "--images", photographs, "--out", out, *sets(small + task)).code == 0
    (tmp_path / "empty").mkdir()
    assert "no images in this folder" in refused("score", out, tmp_path / "empty")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert "1 of 1 images could not be scored" in fsiqa("score", out, tmp_path / "broken.jpg").error
    assert "gone.jpg: no such file" in refused("score", out, tmp_path / "gone.jpg")
    assert "cannot be written" in refused("score", out, photographs, "--csv", tmp_path)


def test_results_that_cannot_be_written_are_refused_before_the_work(refused, small, tmp_path):
    (tmp_path / "kept.json").write_text("{}")
    for option in ("--json", "--csv"):
        assert "cannot be written" in refused(
            "adapt", "--config", "grmp", option, tmp_path, "--out", tmp_path / "out", *sets(small)
        )
    assert "no-such" in refused(
        "adapt", "--config", "grmp", "--json", tmp_path / "kept.json", "--task", "no-such", *sets(small)
    )
    assert (tmp_path / "kept.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("out", "kept"))] == ["kept.json"]


def test_a_folder_of_something_else_is_never_replaced(refused, small, photographs):
    before = sorted(photographs.iterdir())
    assert "holds something else" in refused(
        "adapt", "--config", "grmp", "--out", photographs, "--from", "none", *sets(small)
    )
    assert "holds something else" in refused("metatrain", "--config", "grmp", "--out", photographs, *sets(small))
    assert sorted(photographs.iterdir()) == before


def test_options_out_of_range(adapting, refused, rated):
    assert "test = 1.5" in adapting(rated, "--shots", 2, "--test", 1.5)
    assert "test = 0.0" in adapting(rated, "--shots", 2, "--test", 0)
    assert "--set views.stride=0: views.stride = 0" in adapting(rated, "--set", "views.stride=0")
    curve = ("curve", "--task", "csv", "--root", rated.parent, "--labels", rated, "--methods", "gp,ridge", "--shots", 2)
    assert "none of these methods has adapt" in refused(*curve, "--set", "adapt.lrr=1")
    assert "makes its own ratings" in refused("adapt", "--task", "demo", "--labels", rated)
    assert "no column '3'" in adapting(rated, "--score-column", "3")


def test_device_that_is_not_there(refused):
    assert "--device cuda:99" in refused("metatrain", "--device", "cuda:99")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = photograph(3)
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        image.convert(mode).save(path)
    decoded = read_image(path)
    assert decoded.shape == (3, image.height, image.width)
    expected = np.asarray(image.convert("L" if mode in ("L", "LA", "I;16") else "RGB").convert("RGB"))
    tolerance = {"CMYK": 12, "P": 40, "1": 255}.get(mode, 0)
    assert np.abs(decoded.transpose(1, 2, 0).astype(int) - expected).mean() <= tolerance


def test_transparency_lies_over_white(tmp_path):
    Image.new("RGBA", (40, 40), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()


def test_exif_rotation_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    photograph(4).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 72, 60)


def test_images_smaller_than_the_crop_are_enlarged():
    from fewshot_iqa.config import ViewSpec
    from tests.conftest import seeded

    tiny = (seeded(3, 20, 50) * 255).byte().numpy()
    assert min(prepare(tiny, ViewSpec(crop=32)).shape[1:]) == 32


def test_shots():
    assert Shots.parse("20%").of(50) == 10
    assert Shots.parse(7).of(50) == 7
    with pytest.raises(InputError, match="holds only 5"):
        Shots.parse("7").of(5)
