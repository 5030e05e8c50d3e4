"""Losses, regularisation, metrics and the loops against references in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from fewshot_iqa import metrics, rng
from fewshot_iqa.config import RidgeSpec, load_config
from fewshot_iqa.finetune import fit, gaussian_process, ridge
from fewshot_iqa.losses import WeightedSum, distribution_cross_entropy, soft_cross_entropy
from fewshot_iqa.model.checkpoint import build, load, save
from fewshot_iqa.model.quality import scene_anchor
from fewshot_iqa.regularize import cosine, project_gradient
from fewshot_iqa.types import Batch
from tests.conftest import seeded


@pytest.fixture
def settings(small):
    return load_config("grmp", small)


@pytest.fixture
def model(settings):
    with rng.scoped(0, "model"):
        return build(settings)


def a_batch(key: int, n: int = 4) -> Batch:
    noise = rng.generator(key, "batch")
    return Batch(torch.rand(n, 3, 32, 32, generator=noise), {"quality": torch.rand(n, generator=noise)})


def test_soft_cross_entropy_against_numpy():
    logits, y = seeded(5, 2).double(), seeded(5).double()
    p = np.exp(logits.numpy())
    p /= p.sum(1, keepdims=True)
    expected = -(y.numpy() * np.log(p[:, 0]) + (1 - y.numpy()) * np.log(p[:, 1])).mean()
    assert soft_cross_entropy(logits, y).item() == pytest.approx(expected, abs=1e-12)


def test_distribution_cross_entropy_is_least_at_the_target():
    target = seeded(3, 9).double().softmax(-1)
    entropy = -(target * target.log()).sum(-1).mean()
    torch.testing.assert_close(distribution_cross_entropy(target.log(), target), entropy)
    torch.testing.assert_close(distribution_cross_entropy(2 * target.log(), target, temperature=2.0), entropy)
    assert distribution_cross_entropy(seeded(3, 9).double() * 3, target) > entropy


@given(st.floats(0, 5), st.integers(0, 100))
def test_project_gradient_against_the_equation(strength, seed):
    noise = np.random.default_rng(seed)
    q, s = noise.standard_normal((2, 4, 3))
    result = project_gradient({"w": torch.from_numpy(q)}, {"w": torch.from_numpy(s)}, strength)["w"].numpy()
    along = (q * s).sum()
    expected = q if along <= 0 else q - strength * along / (s**2).sum() * s
    np.testing.assert_allclose(result, expected, atol=1e-12)
    if along > 0 and abs(strength - 1) < 1e-12:
        assert abs((result * s).sum()) < 1e-9


def test_project_gradient_goes_by_name():
    task = {"a": torch.ones(2), "b": torch.ones(2)}
    result = project_gradient(task, {"b": torch.ones(2)}, 1.0)
    assert torch.equal(result["a"], torch.ones(2))
    assert torch.equal(result["b"], torch.zeros(2))
    assert torch.equal(project_gradient(task, {"a": torch.zeros(2)}, 5.0)["a"], torch.ones(2))


@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_a_scope_is_projected_as_one_vector(scope):
    noise = np.random.default_rng(3)
    names = ["clip.resblocks.0.attn.w", "clip.resblocks.0.ln.w", "clip.resblocks.10.ln.w", "text.context", "text.other"]
    task, anchor = ({name: torch.from_numpy(noise.standard_normal(3)) for name in names} for _ in range(2))
    for i in (1, 3):
        anchor[names[i]] = task[names[i]] + 0.1 * anchor[names[i]]  # along the task
    parts = {"tensor": [[n] for n in names], "layer": [names[:2], names[2:3], names[3:]], "global": [names]}[scope]
    result = project_gradient(task, anchor, 1.0, scope)
    for part in parts:
        q, s, r = (torch.cat([some[name] for name in part]).numpy() for some in (task, anchor, result))
        expected = q if q @ s <= 0 else q - (q @ s) / (s @ s) * s
        np.testing.assert_allclose(r, expected, atol=1e-12)
    q, s = (torch.cat(list(some.values())).numpy() for some in (task, anchor))
    assert cosine(task, anchor) == pytest.approx(q @ s / np.sqrt((q @ q) * (s @ s)))
    assert cosine(task, {}) == 0
    assert cosine(task, {names[0]: torch.zeros(3)}) == 0


def test_metrics_are_scipys():
    a, b = np.random.default_rng(0).random((2, 30))
    assert metrics.srcc(a, b) == stats.spearmanr(a, b).statistic
    assert metrics.plcc(a, b) == stats.pearsonr(a, b).statistic
    assert metrics.krcc(a, b) == stats.kendalltau(a, b).statistic
    assert metrics.rmse(a, b) == pytest.approx(np.sqrt(((a - b) ** 2).mean()))
    assert np.isnan(metrics.srcc(np.ones(5), b[:5]))
    assert np.isnan(metrics.srcc([1.0], [1.0]))


def test_fitting_learns_a_handful_and_touches_nothing_else(model, settings):
    spec = settings.adapt.model_copy(update={"optimizer": "adamw", "lr": 1e-2})
    anchor = scene_anchor(model.spec, "scene", model.clip)
    params = model.train_only(["text.quality.*", "visual.*"])
    frozen = {name: value.clone() for name, value in model.clip.state_dict().items()}
    batch, losses = a_batch(7), []
    loss = WeightedSum(settings.loss)

    fit(model, params, [batch] * 40, loss, spec, anchor=anchor, log=lambda entry: losses.append(entry["loss"]))
    assert losses[-1] < losses[0]
    assert not model.training
    assert all(torch.equal(frozen[name], value) for name, value in model.clip.state_dict().items())


def test_regularised_fit_takes_the_projected_step(model, settings):
    spec = settings.adapt.model_copy(update={"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.0})
    model.visual["main"].dropout.p = 0.0
    anchor = scene_anchor(model.spec, "scene", model.clip)
    params = model.train_only(["visual.*"])
    before = {name: value.detach().clone() for name, value in params.items()}
    batch = a_batch(3)
    loss = WeightedSum(settings.loss)

    output = model(batch.images, branches=["scene"])
    target = anchor(batch.images).logits["scene"].softmax(-1)
    names = list(params)
    task = torch.autograd.grad(loss(output, batch.targets), list(params.values()), retain_graph=True)
    semantic = torch.autograd.grad(distribution_cross_entropy(output.logits["scene"], target), list(params.values()))
    wanted = project_gradient(
        dict(zip(names, task, strict=True)), dict(zip(names, semantic, strict=True)), spec.regularizer.strength
    )
    fit(model, params, [batch], loss, spec, anchor=anchor)
    for name in names:
        torch.testing.assert_close(params[name].detach(), before[name] - 0.1 * wanted[name])


def test_a_branch_is_computed_only_where_it_is_asked_for(model):
    images = a_batch(1).images
    assert set(model(images).logits) == {"quality"}
    assert set(model(images, branches=["scene"]).logits) == {"quality", "scene"}


def test_encoding_prompts_beforehand_changes_nothing(model):
    images = a_batch(1).images
    with torch.no_grad():
        torch.testing.assert_close(model(images).quality, model(images, model.encode_prompts()).quality)


def test_randomness_stays_in_its_scope():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with rng.scoped(1, "here"):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with rng.scoped(1, "here"):
        assert torch.equal(torch.rand(3), inside)
    assert rng.permutation(9, 0, "a") != rng.permutation(9, 0, "b")


@pytest.fixture
def linear(miniature):
    return build(load_config("ridge", [f"clip={miniature}", "views.crop=32"]))


def test_ridge_against_the_normal_equations(linear):
    images, y = seeded(9, 6, 3, 32, 32), torch.linspace(0.1, 0.9, 9)
    with torch.no_grad():
        features = linear.summary(images).mean(1)
        each = linear.summary(images[0])[:, 0]
    assert torch.allclose(features[0], each.mean(0), atol=1e-5)
    assert ridge(linear, features, y, RidgeSpec(penalties=[3.0])) == 3.0
    x, y = features.double(), y.double()
    z = (x - x.mean(0)) / x.std(0, correction=0)
    weight = torch.linalg.solve(z.T @ z + 3 * torch.eye(z.shape[1]).double(), z.T @ (y - y.mean()))
    expected = z @ weight + y.mean()
    assert torch.allclose(linear.head(features).quality.double(), expected, atol=1e-4)


def test_ridge_chooses_its_penalty_by_leaving_one_out(linear):
    with torch.no_grad():
        features, quality = linear.summary(seeded(12, 2, 3, 32, 32)).mean(1), seeded(12)
    penalties = [1e-2, 1.0, 1e2, 1e6]
    chosen = ridge(linear, features, quality, RidgeSpec(penalties=penalties))
    x, y = features.double(), quality.double()
    z = (x - x.mean(0)) / x.std(0, correction=0)

    def left_out(penalty: float) -> float:
        errors = []
        for i in range(len(y)):
            rest = torch.arange(len(y)) != i
            centre, level = z[rest].mean(0), y[rest].mean()
            inner = z[rest] - centre
            weight = torch.linalg.solve(
                inner.T @ inner + penalty * torch.eye(z.shape[1]).double(), inner.T @ (y[rest] - level)
            )
            errors.append(((z[i] - centre) @ weight + level - y[i]) ** 2)
        return float(torch.stack(errors).mean())

    assert chosen == min(penalties, key=left_out)


def test_the_gaussian_process_is_scikit_learns(miniature, tmp_path):
    settings = load_config("gp", [f"clip={miniature}", "views.crop=32", "gp.linear=[0.3]", "gp.noise=[0.05]"])
    model = build(settings)
    with torch.no_grad():
        shots, others = model.summary(seeded(7, 3, 32, 32)).mean(1), model.summary(seeded(5, 3, 32, 32)).mean(1)
    quality = seeded(7)
    gaussian_process(model, shots, quality, settings.gp)
    x = shots.double().numpy()
    mean, spread, width = x.mean(0), x.std(0), x.shape[1]
    x, new = (x - mean) / spread, (others.double().numpy() - mean) / spread
    linear = kernels.ConstantKernel(0.3 / width, "fixed") * kernels.DotProduct(0, "fixed")
    near = kernels.ConstantKernel(0.7, "fixed") * kernels.Matern(4 * width**0.5, "fixed", nu=0.5)
    y = quality.double().numpy()
    theirs = GaussianProcessRegressor(kernels.ConstantKernel(1, "fixed") + linear + near, alpha=0.05)
    theirs.fit(x, y - y.mean())
    expected, deviation = theirs.predict(new, return_std=True)
    told = model.head(others)
    amplitude = float(model.head.hyperparameters[-1])
    covariance = theirs.kernel_(x) + 0.05 * np.eye(7)
    assert amplitude == pytest.approx((y - y.mean()) @ np.linalg.solve(covariance, y - y.mean()) / 7)
    np.testing.assert_allclose(told.quality, expected + y.mean(), atol=1e-5)
    np.testing.assert_allclose(told.std, np.sqrt(amplitude * (deviation**2 + 0.05)), atol=1e-5)

    save(tmp_path / "gp", model, settings, {})  # a head as large as its shots comes back
    again, _, _ = load(tmp_path / "gp")
    assert torch.equal(again.head(others).std, told.std)


@pytest.mark.parametrize("method", ["ridge", "gp"])
def test_a_feature_that_is_constant_over_the_shots_says_nothing(miniature, method):
    settings = load_config(method, [f"clip={miniature}", "views.crop=32"])
    answers = []
    for sign in (0.0, 1.0):
        model = build(settings)
        width = model.clip.summary_width
        shots, others = seeded(20, width), seeded(6, width)
        shots[:, 3], others[:, 3] = 0.25, 0.25 + sign
        if method == "gp":
            gaussian_process(model, shots, shots[:, 0], settings.gp)
            assert model.head(others).std.max() < 2
        else:
            ridge(model, shots, shots[:, 0], settings.ridge)
        answers.append(model.head(others).quality)
    torch.testing.assert_close(*answers, atol=0.1, rtol=0)


def test_ridge_leaves_whole_groups_out(linear):
    """Copies of a shot in the folds that train would make any penalty but the least look bad."""
    features, quality = seeded(8, linear.clip.summary_width), seeded(8)
    copies, groups = features.repeat(6, 1), [str(i) for i in range(8)] * 6
    spec = RidgeSpec(penalties=[1e-3, 1e5])
    assert ridge(linear, copies, quality.repeat(6), spec) == 1e-3
    assert ridge(linear, copies, quality.repeat(6), spec, groups) == 1e5


def test_the_gaussian_process_takes_what_is_likeliest(miniature):
    settings = load_config("gp", [f"clip={miniature}", "views.crop=32"])
    model = build(settings)
    with torch.no_grad():
        shots = model.summary(seeded(30, 3, 32, 32)).mean(1)
    quality = 0.5 + 0.1 * (shots - shots.mean(0)) @ seeded(shots.shape[1])
    gaussian_process(model, shots, quality, settings.gp)
    chosen = {}
    for linear in settings.gp.linear:
        for noise in settings.gp.noise:
            some = settings.gp.model_copy(update={"linear": [linear], "noise": [noise]})
            gaussian_process(model, shots, quality, some)
            x, y = model.head.standardized(shots), (quality - quality.mean()).double()
            covariance = model.head.kernel(x, x, linear, some.length) + noise * torch.eye(30).double()
            normal = torch.distributions.MultivariateNormal(
                torch.zeros(30).double(), model.head.hyperparameters[-1] * covariance
            )
            chosen[linear, noise] = float(normal.log_prob(y)) - math.log10(noise) ** 2 / 2
    gaussian_process(model, shots, quality, settings.gp)
    assert (float(model.head.hyperparameters[0]), float(model.head.hyperparameters[2])) == max(chosen, key=chosen.get)


def test_of_several_views_the_mean_counts(model):
    images = seeded(2, 3, 3, 32, 32)
    with torch.no_grad():
        output = model(images, branches=["scene"])
        each = [model(images[:, i], branches=["scene"]) for i in range(3)]
    assert torch.allclose(output.quality, torch.stack([one.quality for one in each]).mean(0), atol=1e-6)
    expected = torch.stack([one.logits["scene"] for one in each]).mean(0)
    assert torch.allclose(output.logits["scene"], expected, atol=1e-4)


@pytest.mark.parametrize("method", ["coop", "linear", "clip_iqa"])
def test_what_the_tower_said_stands_for_the_pictures(miniature, method):
    settings = load_config(method, [f"clip={miniature}", "views.crop=32"])
    model, images = build(settings), seeded(2, 3, 3, 32, 32)
    assert model.looks_the_same(settings.adapt.trainable if settings.adapt else [])
    assert not model.looks_the_same(["clip.visual.ln_post.*"])
    if method == "linear":
        torch.nn.init.normal_(model.head.weight)
    with torch.no_grad():
        expected, found = model(images), model(model.summary(images))
    assert torch.allclose(found.quality, expected.quality, atol=1e-6)
    assert found.logits.keys() == expected.logits.keys()
    assert expected.quality[0] != expected.quality[1]


def test_a_tower_with_prompts_does_not_look_the_same(model):
    assert not model.looks_the_same([])
