"""`fsiqa report`: its numbers, its page in a real browser, and the same figures from Python."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fewshot_iqa
from fewshot_iqa import InputError
from fewshot_iqa.recipes import plots, results
from fewshot_iqa.recipes.reporting import find_report
from tests.browser import PHONE, needs_browser, opened, serious
from tests.conftest import photograph

pytestmark = pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A table of 24 photographs of three cameras, the more contrast the better, each with three votes."""
    folder, rows = tmp_path_factory.mktemp("rated"), []
    for i in range(24):
        pixels = np.asarray(photograph(i)).astype(float)
        Image.fromarray((128 + (pixels - 128) * i / 23).astype(np.uint8)).save(folder / f"{i}.png")
        rows += [{"image": f"{i}.png", "rating": i / 6 + vote, "subset": f"camera {i % 3}"} for vote in (0, 0.5, 1)]
    pd.DataFrame(rows).to_csv(folder / "ratings.csv", index=False)
    return folder / "ratings.csv"


@pytest.fixture(scope="module")
def adapted(rated, miniature, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "gp"
    options = {"clip": miniature, "overrides": ["views={crop: 32, count: 1}"]}
    return fewshot_iqa.adapt("gp", labels=rated, range=(0, 5), out=out, **options)


@pytest.fixture(scope="module")
def page(adapted):
    return fewshot_iqa.report(adapted.out, adapted.out.parent / "report.html", baselines=["ridge"])


def test_baselines_learn_and_predict_as_if_they_were_adapted(adapted, rated, miniature, tmp_path):
    found = find_report(adapted.out, ["ridge"]).methods.set_index("method")
    views = ["views.crop=32"]  # the method's own views otherwise
    alone = fewshot_iqa.adapt(
        "ridge", labels=rated, range=(0, 5), out=tmp_path / "ridge", clip=miniature, overrides=views
    )
    for name, result in (("gp", adapted), ("ridge", alone)):
        agreed = result.metrics["agreement"]
        for metric in ("srcc", "plcc", "rmse"):
            assert found.loc[name, metric] == pytest.approx(agreed[metric], rel=1e-6), (name, metric)
    ahead = found.loc["ridge"]
    assert ahead["ahead"] == pytest.approx(found.loc["gp", "srcc"] - found.loc["ridge", "srcc"], abs=1e-6)
    assert ahead["ahead_low"] <= ahead["ahead"] <= ahead["ahead_high"]


def test_the_page_says_what_adapt_found(adapted, page):
    text = page.read_text(encoding="utf-8")
    agreed, ceiling = adapted.metrics["agreement"], adapted.metrics["ceiling"]
    for value in (agreed["srcc"], agreed["plcc"], agreed["rmse"], ceiling["srcc"]):
        assert f"{value:.3f}" in text
    assert f"{agreed['coverage']:.0%} of the ratings" in text.replace("<b>", "").replace("</b>", "")
    for title in ("Prediction and rating", "Calibration", "Residuals by subset", "Learning curve", "Most mistaken"):
        assert title in text
    assert "camera 2 (8)" in decoded(text)
    assert len(re.findall(r"<img ", text)) == len(re.findall(r'<img src="data:image/[^"]+" alt="[^"]{10,}"', text))
    assert not re.findall(r'(?:src|href)="(?!data:|https://)', text)


def decoded(text):
    import base64

    return "".join(base64.b64decode(each).decode() for each in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text))


@needs_browser
@pytest.mark.parametrize("screen", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_the_page_is_accessible_and_loads_nothing(browser, page, screen):
    with opened(browser, page.as_uri(), **screen) as shown:
        assert serious(shown) == []
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert [url for url in shown.asked if not url.startswith(("data:", page.as_uri()))] == []
        assert shown.problems == []
        assert all(shown.evaluate("[...document.images].map((image) => image.naturalWidth > 20)"))
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement !== document.body")


def test_the_same_figures_come_from_python(adapted, tmp_path):
    axes = adapted.plot_scatter(tmp_path / "scatter.png").axes[0]
    drawn = axes.containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(drawn, adapted.pictures[["predicted_rating", "rating"]].to_numpy())
    assert (tmp_path / "scatter.png").stat().st_size > 5000
    inside = adapted.plot_calibration().axes[0].lines[1].get_xydata()
    assert dict(inside.round(2))[0.9] == pytest.approx(adapted.metrics["agreement"]["coverage"], abs=0.006)
    assert [each.get_text() for each in adapted.plot_residuals().axes[0].get_yticklabels()] == [
        f"camera {i} (8)" for i in range(3)
    ]
    thirds = plots.plot_residuals(adapted.pictures.drop(columns="subset")).axes[0].get_yticklabels()
    assert [each.get_text() for each in thirds] == [f"{name} third (8)" for name in ("lowest", "middle", "highest")]
    with pytest.raises(InputError, match=r"no column subst\. Did you mean 'subset'"):
        adapted.plot_residuals(by="subst")


def test_a_method_with_gradients_has_training_curves(rated, miniature, tmp_path):
    options = {"clip": miniature, "overrides": ["views={crop: 32, count: 1}", "adapt.steps=3"]}
    result = fewshot_iqa.adapt("coop", labels=rated, shots=12, seeds=2, out=tmp_path / "coop", **options)
    found = find_report(result.out, ["ridge"])
    assert len(found.provenance["history"]) == 3
    assert found.methods["draws"].tolist() == [2, 2]
    assert found.methods.loc[0, "median"] == pytest.approx(result.metrics["median"]["srcc"], rel=1e-3)
    text = fewshot_iqa.report(result.out, tmp_path / "report.html", baselines=[]).read_text()
    assert "Loss of 3 gradient steps" in text
    assert "Calibration" not in text
    with pytest.raises(InputError, match="predicts no standard deviation"):
        result.plot_calibration()
    with pytest.raises(InputError, match=r"use fsiqa\.curve"):
        result.plot_learning_curve()


def test_what_the_distortion_branch_sees_is_counted(rated, miniature, tmp_path):
    table = pd.read_csv(rated).assign(distortion=lambda rows: rows.index.map(lambda i: "jpeg" if i < 36 else "blur"))
    options = {"clip": miniature, "overrides": ["views={crop: 32, count: 1}", "adapt.steps=3"]}
    result = fewshot_iqa.adapt("mp_iqe", labels=table, root=rated.parent, shots=12, out=tmp_path / "mp", **options)
    found = find_report(result.out, [])
    assert sum(found.phrases["distortion"].values()) == len(results.tested(result.pictures))
    text = fewshot_iqa.report(result.out, tmp_path / "report.html", baselines=[]).read_text()
    assert "What the distortion branch sees" in text
    assert "Residuals by distortion" in text


def test_groups_stay_texts(rated, miniature, tmp_path):
    groups = ["NA", "None", "1", "01", "001", "$a$", "<b>", "nan"]
    table = pd.read_csv(rated).assign(group=lambda rows: [groups[i // 3 % 8] for i in range(len(rows))])
    options = {"clip": miniature, "overrides": ["views={crop: 32, count: 1}"]}
    labels = table.drop(columns="subset")
    result = fewshot_iqa.adapt("gp", labels=labels, root=rated.parent, out=tmp_path / "gp", **options)
    found = find_report(result.out, [])
    assert set(found.pictures["group"]) == set(groups)
    row, agreed = found.methods.iloc[0], result.metrics["agreement"]
    assert (row["low"], row["high"]) == pytest.approx(agreed["srcc_interval"])
    page = fewshot_iqa.report(result.out, tmp_path / "report.html", baselines=[])
    assert "$a$ (3)" in decoded(page.read_text())


def test_what_cannot_be_reported_is_said(fsiqa, adapted, rated, tmp_path):
    assert "not a checkpoint" in fsiqa("report", tmp_path).error
    result = fsiqa("report", Path(fewshot_iqa.__file__).parent / "assets" / "grmp", "-o", tmp_path / "report.html")
    assert "learned from no ratings" in result.error
    (adapted.out / "pictures.csv").rename(tmp_path / "pictures.csv")
    assert "holds no pictures.csv" in fsiqa("report", adapted.out, "-o", tmp_path / "report.html").error
    (tmp_path / "pictures.csv").rename(adapted.out / "pictures.csv")
    assert "no config is named 'rigde'" in fsiqa("report", adapted.out, "--baselines", "rigde").error
    moved = rated.with_name("0.png").rename(rated.with_name("moved.png"))
    result = fsiqa("report", adapted.out, "-o", tmp_path / "report.html")
    moved.rename(rated.with_name("0.png"))
    assert result.code == 0, result.error
    assert "no baselines: " in (tmp_path / "report.html").read_text()
