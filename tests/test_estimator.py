"""The estimator, by scikit-learn's rules."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.utils import estimator_checks

from fewshot_iqa import InputError, QualityRegressor
from tests.conftest import photograph

pytestmark = pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")

# The checks of scikit-learn's own suite that do not give a table of numbers as X.
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_get_params_invariance",
    "check_set_params",
    "check_parameters_default_constructible",
    "check_mixin_order",
    "check_valid_tag_types",
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    for i in range(12):
        photograph(i, 60, 72).save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(12)]


@pytest.fixture
def ridge(miniature):
    return QualityRegressor("ridge", clip=miniature, overrides=["views={crop: 32, count: 1}"])


Y = np.linspace(1, 5, 12)


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks(name):
    check = getattr(estimator_checks, name)
    arguments = [QualityRegressor.__name__]
    arguments.append(QualityRegressor if name == "check_parameters_default_constructible" else QualityRegressor())
    if name == "check_parameters_default_constructible":
        arguments[1] = QualityRegressor()
    check(*arguments)


def test_it_learns_and_predicts_on_the_scale_of_its_ratings(ridge, paths):
    with pytest.raises(NotFittedError):
        ridge.predict(paths)
    assert ridge.fit(paths, Y) is ridge
    predicted, std = ridge.predict(paths, return_std=True)
    assert predicted.shape == (12,)
    assert predicted.min() >= 1
    assert predicted.max() <= 5
    assert np.isnan(std).all()
    assert ridge.score(paths, Y) > 0.5
    copy = clone(ridge)
    assert not hasattr(copy, "model_")
    np.testing.assert_allclose(copy.fit(paths, Y).predict(paths), predicted, atol=1e-6)


def test_a_process_predicts_its_deviation(miniature, paths):
    process = QualityRegressor("gp", clip=miniature, overrides=["views={crop: 32, count: 1}"], range=(0, 100))
    _, std = process.fit(paths, 10 * Y).predict(paths[:3], return_std=True)
    assert (std > 0).all()
    assert std.max() < 100


def test_pictures_may_be_arrays(ridge, paths):
    arrays = [np.asarray(photograph(i, 60, 72)) for i in range(12)]
    from_files = ridge.fit(paths, Y).predict(paths)
    np.testing.assert_allclose(clone(ridge).fit(arrays, Y).predict(arrays), from_files, atol=1e-5)


def test_lower_may_be_better(ridge, paths):
    turned = clone(ridge).set_params(lower_is_better=True).fit(paths, Y[::-1])
    assert turned.model_.score(paths[11]) > turned.model_.score(paths[0])
    assert turned.predict(paths[11:])[0] < turned.predict(paths[:1])[0]


def test_tools_of_scikit_learn_take_it(ridge, paths):
    groups = [str(i // 2) for i in range(12)]
    assert cross_val_predict(ridge, paths, Y, groups=groups, cv=GroupKFold(3)).shape == (12,)
    search = GridSearchCV(ridge, {"overrides": [(*ridge.overrides, "head.penalties=[1]"), ridge.overrides]}, cv=3)
    assert search.fit(paths, Y).best_params_["overrides"]


@pytest.mark.parametrize(
    ("pictures", "ratings", "message"),
    [
        (slice(0, 3), [1, 2], "3 pictures, and ratings of shape"),
        (slice(0, 2), [1, np.nan], "NaN"),
        (slice(0, 2), [3, 3], "all equal 3"),
    ],
)
def test_what_cannot_be_learned_is_one_line(ridge, paths, pictures, ratings, message):
    with pytest.raises(InputError, match=message):
        ridge.fit(paths[pictures], ratings)


def test_a_picture_that_cannot_be_read_is_named(ridge, paths, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png"):
        ridge.fit([*paths[:3], str(tmp_path / "text.png")], [1, 2, 3, 4])
    with pytest.raises(InputError, match=r"text\.png"):
        ridge.fit(paths, Y).predict([str(tmp_path / "text.png")])
