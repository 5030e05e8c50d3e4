"""Losses, regularisation, metrics and the loops against references in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold

from fewshot_iqa import rng
from fewshot_iqa.config import LossTerm, load_config
from fewshot_iqa.errors import InputError
from fewshot_iqa.finetune import finetune
from fewshot_iqa.losses import FunctionLoss, WeightedSum, distribution_cross_entropy, first_infinite, soft_cross_entropy
from fewshot_iqa.model.checkpoint import build, load, save
from fewshot_iqa.model.heads.linear import grouped_errors, rating_weights
from fewshot_iqa.model.heads.prior import SHRINKAGE, linear_prior
from fewshot_iqa.model.quality import zero_shot_teacher
from fewshot_iqa.regularize import cosine, project_gradient
from fewshot_iqa.types import Batch, Features, Prediction
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


def test_fitting_learns_a_handful_and_touches_nothing_else(model, settings):
    spec = settings.adapt.of_steps(40).model_copy(update={"lr": 1e-2})
    teacher = zero_shot_teacher(model.spec, "scene", model.clip)
    model.visual["main"].dropout.p = 0.0
    params = model.train_only(["text.quality.*", "visual.*"])
    frozen = {name: value.clone() for name, value in model.clip.state_dict().items()}
    batch, losses = a_batch(7), []
    loss = WeightedSum(settings.loss)

    finetune(model, params, [batch] * 40, loss, spec, teacher=teacher, log=lambda entry: losses.append(entry["loss"]))
    assert losses[-1] < losses[0]
    with pytest.raises(InputError, match="a cosine schedule ends at the last step"):
        finetune(model, params, [batch], loss, spec.model_copy(update={"steps": None}), teacher=teacher)
    assert not model.training
    assert all(torch.equal(frozen[name], value) for name, value in model.clip.state_dict().items())


class Scale(torch.nn.Module):
    """Predicts a parameter, and logs of another."""

    def __init__(self):
        super().__init__()
        self.good, self.bad = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.ones(2))

    def forward(self, inputs, branches=(), prompts=()):
        return Prediction((self.good + self.bad).mean().expand(len(inputs)))


def infinite_loss(model, at, steps):
    return model.bad.sum() * (math.nan if at == steps else 1)


def infinite_gradient(model, at, steps):
    # sqrt(0) is 0, and its derivative infinite
    return (model.bad - model.bad.detach()).abs().sum().sqrt() if at == steps else model.bad.sum()


@pytest.mark.parametrize(
    ("at_fault", "message"),
    [
        (infinite_loss, "step 3 of adaptation: the loss is nan, .*is not finite: lower adapt.lr"),
        (infinite_gradient, "step 3 of adaptation: the loss is .*, the gradient of bad is not finite: lower adapt.lr"),
    ],
)
def test_a_step_that_diverges_is_not_taken(settings, at_fault, message):
    spec = settings.adapt.of_steps(9).model_copy(update={"regularizer": None, "optimizer": "sgd", "lr": 0.1})
    model, seen, kept = Scale(), [], []

    def loss(prediction, targets):
        seen.append(prediction)
        return prediction.mean.mean() + at_fault(model, len(seen), 3)

    def log(_):
        kept.append({name: value.detach().clone() for name, value in model.named_parameters()})

    with pytest.raises(InputError, match=message):
        finetune(model, dict(model.named_parameters()), [a_batch(2)] * 9, FunctionLoss(loss), spec, log=log)
    assert len(seen) == 3
    assert len(kept) == 2
    assert all(torch.equal(value, kept[-1][name]) for name, value in model.named_parameters())
    assert not model.training


def test_a_rate_that_makes_parameters_infinite_takes_no_step(settings):
    spec = settings.adapt.of_steps(2).model_copy(update={"regularizer": None, "optimizer": "sgd", "lr": 1e300})
    model = Scale()
    loss = FunctionLoss(lambda prediction, targets: prediction.mean.mean())
    with pytest.raises(InputError, match=r"the gradient of good is not finite: lower adapt.lr \(now 1e\+300\)"):
        finetune(model, dict(model.named_parameters()), [a_batch(2)] * 2, loss, spec)
    assert model.good.tolist() == [0, 0]


def test_a_tensor_is_infinite_as_it_is_or_multiplied():
    tensors = {"small": torch.ones(2), "large": torch.tensor([1.0, 3e38])}
    assert first_infinite(tensors) is None
    assert first_infinite(tensors, 1.2) == "large"
    assert first_infinite({"small": torch.ones(2)}, 1e9) is None


def test_weights_that_are_damaged_are_not_the_rates_fault(settings):
    spec, model = settings.adapt.of_steps(2).model_copy(update={"regularizer": None}), Scale()
    model.bad.data.fill_(math.nan)
    loss = FunctionLoss(lambda prediction, targets: prediction.mean.mean())
    with pytest.raises(InputError, match="step 1 of adaptation: the loss is nan, bad is not finite: check the weights"):
        finetune(model, dict(model.named_parameters()), [a_batch(2)], loss, spec)


def test_regularised_fit_takes_the_projected_step(model, settings):
    spec = settings.adapt.model_copy(update={"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.0})
    model.visual["main"].dropout.p = 0.0
    teacher = zero_shot_teacher(model.spec, "scene", model.clip)
    params = model.train_only(["visual.*"])
    before = {name: value.detach().clone() for name, value in params.items()}
    batch = a_batch(3)
    loss = WeightedSum(settings.loss)

    output = model(batch.inputs, branches=["scene"])
    target = teacher(batch.inputs).logits["scene"].softmax(-1)
    names = list(params)
    task = torch.autograd.grad(loss(output, batch.targets), list(params.values()), retain_graph=True)
    semantic = torch.autograd.grad(distribution_cross_entropy(output.logits["scene"], target), list(params.values()))
    wanted = project_gradient(
        dict(zip(names, task, strict=True)), dict(zip(names, semantic, strict=True)), spec.regularizer.strength
    )
    finetune(model, params, [batch], loss, spec, teacher=teacher)
    for name in names:
        torch.testing.assert_close(params[name].detach(), before[name] - 0.1 * wanted[name])


def test_a_branch_is_computed_only_where_it_is_asked_for(model):
    images = a_batch(1).inputs
    assert set(model(images).logits) == {"quality"}
    assert set(model(images, branches=["scene"]).logits) == {"quality", "scene"}


def test_encoding_prompts_beforehand_changes_nothing(model):
    images = a_batch(1).inputs
    with torch.no_grad():
        torch.testing.assert_close(model(images).mean, model(images, model.encode_prompts()).mean)


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


def pooled(matrix) -> Features:
    """Pooled features (R, S) of one view each."""
    return Features(matrix.shape[1], {"": matrix[:, None]})


def features_of(model, images) -> Features:
    with torch.no_grad():
        return model.encode(images, model.encode_prompts())


def built(miniature, method, *overrides):
    return build(load_config(method, [f"clip={miniature}", "views.crop=32", *overrides]))


def test_ridge_against_the_normal_equations(miniature):
    model = built(miniature, "ridge", "head.penalties=[3.0]")
    images, y = seeded(9, 6, 3, 32, 32), torch.linspace(0.1, 0.9, 9)
    features = features_of(model, images)
    assert torch.allclose(features.matrix()[0], features_of(model, images[0]).matrix().mean(0), atol=1e-5)
    model.head.fit(features, y)
    assert model.head.penalty == 3.0
    x, y = features.matrix().double(), y.double()
    z = (x - x.mean(0)) / x.std(0, correction=0)
    weight = torch.linalg.solve(z.T @ z + 3 * torch.eye(z.shape[1]).double(), z.T @ (y - y.mean()))
    assert torch.allclose(model.head.predict(features).mean.double(), z @ weight + y.mean(), atol=1e-4)


def test_ridge_weighs_ratings_by_what_their_votes_know(miniature):
    model = built(miniature, "ridge", "head.penalties=[3.0]")
    features, y = features_of(model, seeded(9, 3, 32, 32)), torch.linspace(0.1, 0.9, 9)
    variance = torch.linspace(0.001, 0.1, 9)
    model.head.fit(features, y, variance=variance)
    x, quality = features.matrix().double(), y.double()
    z = (x - x.mean(0)) / x.std(0, correction=0)
    w = rating_weights(variance.double())
    assert w.mean() == pytest.approx(1)
    counts = 1 / (0.1**2 + variance.double())  # a model that knew all would be off by about 0.1
    assert torch.allclose(w, counts / counts.mean())
    centre, level = (w @ z) / 9, (w @ quality) / 9
    inner = z - centre
    weight = torch.linalg.solve(
        inner.T @ (w[:, None] * inner) + 3 * torch.eye(z.shape[1]).double(), inner.T @ (w * (quality - level))
    )
    assert torch.allclose(model.head.predict(features).mean.double(), inner @ weight + level, atol=1e-4)
    model.head.fit(features, y, variance=torch.full((9,), 0.05))
    equal = model.head.weight.clone()
    model.head.fit(features, y)
    assert torch.allclose(model.head.weight, equal, atol=1e-6)


@pytest.mark.parametrize("branch", ["quality", None])
@pytest.mark.parametrize("kind", ["mse", "soft_cross_entropy", "smooth_l1"])
def test_losses_weigh_ratings_by_what_their_votes_know(kind, branch):
    if (kind == "soft_cross_entropy" and branch is None) or (kind == "smooth_l1" and branch):
        pytest.skip("not a loss of that kind")
    logits, quality = seeded(4, 2), torch.linspace(0.1, 0.9, 4)
    prediction = Prediction(logits.softmax(dim=1)[:, 0], logits={"quality": logits})
    loss = WeightedSum([LossTerm(kind=kind, branch=branch)])
    each = [
        loss(Prediction(prediction.mean[[i]], logits={"quality": logits[[i]]}), {"quality": quality[[i]]})
        for i in range(4)
    ]
    weight = torch.tensor([0.5, 0.5, 1.0, 2.0])
    expected = (weight * torch.stack(each)).sum() / weight.sum()
    assert torch.allclose(loss(prediction, {"quality": quality, "weight": weight}), expected)


def test_ridge_chooses_its_penalty_by_leaving_one_out(miniature):
    penalties = [1e-2, 1.0, 1e2, 1e6]
    model, quality = built(miniature, "ridge", f"head.penalties={penalties}"), seeded(12)
    features = features_of(model, seeded(12, 2, 3, 32, 32))
    model.head.fit(features, quality)
    x, y = features.matrix().double(), quality.double()
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

    assert model.head.penalty == min(penalties, key=left_out)


def test_the_gaussian_process_is_scikit_learns(miniature, tmp_path):
    settings = load_config("gp", [f"clip={miniature}", "views.crop=32", "head.linear=[0.3]", "head.noise=[0.05]"])
    model = build(settings)
    shots, others = (features_of(model, seeded(n, 3, 32, 32)) for n in (7, 5))
    quality = seeded(7)
    model.head.fit(shots, quality)
    x = shots.matrix().double().numpy()
    mean, spread, width = x.mean(0), x.std(0), x.shape[1]
    x, new = (x - mean) / spread, (others.matrix().double().numpy() - mean) / spread
    linear = kernels.ConstantKernel(0.3 / width, "fixed") * kernels.DotProduct(0, "fixed")
    near = kernels.ConstantKernel(0.7, "fixed") * kernels.Matern(4 * width**0.5, "fixed", nu=0.5)
    y = quality.double().numpy()
    theirs = GaussianProcessRegressor(kernels.ConstantKernel(1, "fixed") + linear + near, alpha=0.05)
    theirs.fit(x, y - y.mean())
    expected, deviation = theirs.predict(new, return_std=True)
    predicted = model.head.predict(others)
    outputscale = float(model.head.hyperparameters[0, -1])
    covariance = theirs.kernel_(x) + 0.05 * np.eye(7)
    assert outputscale == pytest.approx((y - y.mean()) @ np.linalg.solve(covariance, y - y.mean()) / (7 - 3))
    np.testing.assert_allclose(predicted.mean, expected + y.mean(), atol=1e-5)
    np.testing.assert_allclose(predicted.std, np.sqrt(outputscale * (deviation**2 + 0.05)), atol=1e-5)

    save(tmp_path / "gp", model, settings, {})  # a head as large as its shots comes back
    again, _, _ = load(tmp_path / "gp")
    assert torch.equal(again.head.predict(others).std, predicted.std)


@pytest.mark.parametrize("method", ["ridge", "gp"])
def test_a_feature_that_is_constant_over_the_shots_has_no_effect(miniature, method):
    answers = []
    for sign in (0.0, 1.0):
        model = built(miniature, method)
        width = model.clip.pooled_width
        shots, others = seeded(20, width), seeded(6, width)
        shots[:, 3], others[:, 3] = 0.25, 0.25 + sign
        model.head.fit(pooled(shots), shots[:, 0])
        predicted = model.head.predict(pooled(others))
        assert predicted.std is None or predicted.std.max() < 2
        answers.append(predicted.mean)
    torch.testing.assert_close(*answers, atol=0.1, rtol=0)


def test_ridge_leaves_whole_groups_out(miniature):
    """Copies of a shot in the folds that train would make any penalty but the least look bad."""
    model = built(miniature, "ridge", "head.penalties=[1e-3, 1e5]")
    features, quality = seeded(8, model.clip.pooled_width), seeded(8)
    copies, groups = pooled(features.repeat(6, 1)), [str(i) for i in range(8)] * 6
    model.head.fit(copies, quality.repeat(6))
    assert model.head.penalty == 1e-3
    model.head.fit(copies, quality.repeat(6), groups=groups)
    assert model.head.penalty == 1e5


@pytest.mark.parametrize(("rows", "width"), [(20, 60), (40, 7)])
@pytest.mark.parametrize("weighted", [False, True])
def test_penalties_are_compared_on_whole_groups_as_scikit_learn_does(rows, width, weighted):
    draw = np.random.default_rng(rows)
    x, y, groups = draw.normal(size=(rows, width)), draw.normal(size=rows), draw.integers(0, 8, rows)
    weights = draw.uniform(0.1, 3, rows) if weighted else None
    splits, penalties = list(GroupKFold(5).split(x, groups=groups)), [0.01, 1.0, 30.0, 1e4]
    search = GridSearchCV(Ridge(), {"alpha": penalties}, cv=splits, scoring="neg_mean_squared_error")
    expected = -search.fit(x, y, sample_weight=weights).cv_results_["mean_test_score"]
    assert grouped_errors(x, y, weights, penalties, splits) == pytest.approx(expected, rel=1e-9)


def test_the_gaussian_process_averages_over_hyperparameters_by_their_probability(miniature):
    model = built(miniature, "gp")
    shots, others = (features_of(model, seeded(n, 3, 32, 32)) for n in (12, 5))
    matrix, spec = shots.matrix(), model.head.spec
    quality = 0.5 + 0.1 * (matrix - matrix.mean(0)) @ seeded(matrix.shape[1])
    y, probability, means, variances = (quality - quality.mean()).double(), [], [], []
    for linear in spec.linear:
        for noise in spec.noise:
            one = built(miniature, "gp", f"head.linear=[{linear}]", f"head.noise=[{noise}]").head
            one.fit(shots, quality)
            x = one.standardize(matrix)
            covariance = one.kernel(x, x, linear, spec.lengthscale) + noise * torch.eye(12).double()
            # s² is integrated out by hand: of log s², which is uniform, a fine grid
            scales = torch.linspace(-30, 10, 4001).double().exp()
            density = torch.distributions.MultivariateNormal(torch.zeros(12).double(), covariance)
            unit, half = density.log_prob(torch.zeros(12).double()), y @ torch.linalg.solve(covariance, y) / 2
            marginal = torch.logsumexp(unit - half / scales - 11 / 2 * scales.log(), dim=0)
            probability.append(float(marginal) - math.log10(noise) ** 2 / 2)
            predicted = one.predict(others)
            means.append(predicted.mean)
            variances.append(predicted.std.square())
    weight = torch.tensor(probability).softmax(dim=0)
    weight = torch.where(weight > 0.01, weight, 0) / weight[weight > 0.01].sum()
    mean = weight @ torch.stack(means)
    variance = weight @ (torch.stack(variances) + torch.stack(means).square()) - mean.square()
    model.head.fit(shots, quality)
    assert len(model.head.hyperparameters) == (weight > 0).sum() > 1
    found = model.head.predict(others)
    torch.testing.assert_close(found.mean, mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std, variance.sqrt(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("true", [0, 1, 2])
def test_the_shots_choose_between_prior_means(miniature, true):
    """Predictions are averaged over them by their probability; the linear model is 20 times as probable before."""
    weights, odds = [([1], [0]), ([0.5], [0]), ([0], [0.75])], (1 / 2, 1 / 2, 20)

    def primed(prompt, synthetic):
        settings = [f"head.prompt_mean_weight={prompt}", f"head.synthetic_mean_weight={synthetic}"]
        model = built(miniature, "gp_prompts", "head.linear=[0.1]", "head.noise=[0.1]", *settings)
        clean, direction = seeded(30, model.clip.pooled_width), seeded(model.clip.pooled_width)
        model.head.fit_prior(pooled(clean), pooled(clean - seeded(30, 1) * direction), -seeded(30), torch.ones(30))
        return model.head

    alone, every = [primed(*one) for one in weights], primed([1, 0.5], [0.75])
    shots, others = (
        replace(pooled(seeded(n, len(every.prior_weight))), logits={"quality": 9 * seeded(n, 1, 2)}) for n in (14, 5)
    )
    predicted = [head.predict(shots).mean for head in alone]
    torch.testing.assert_close(every.predict(shots).mean, (predicted[0] + 20 * predicted[2]) / 21)
    quality = (1, 0.5, 0.75)[true] * predicted[true] + 0.02 * seeded(14)
    for head in (*alone, every):
        head.fit(shots, quality)
    evidence = [math.log(odds[i]) - 13 / 2 * float(alone[i].hyperparameters[0, -1].log()) for i in range(3)]
    share = torch.tensor(evidence).softmax(dim=0)
    assert share[true] > 0.9
    share = torch.where(share > 0.01, share, 0) / share[share > 0.01].sum()
    expected = share @ torch.stack([head.predict(others).mean for head in alone])
    torch.testing.assert_close(every.predict(others).mean, expected, atol=1e-5, rtol=0)


def test_the_match_with_a_prompt_is_one_more_feature(miniature, tmp_path):
    """Of ratings that follow it alone; pictures without a prompt have its mean."""
    settings = load_config("gp", [f"clip={miniature}", "views.crop=32", "head.match_weight=0.5"])
    model, plain = build(settings), built(miniature, "gp")
    width = model.clip.pooled_width
    shots, others = (replace(pooled(seeded(n, width)), match=seeded(n, 1)) for n in (40, 20))
    shots.match[:3] = math.nan
    quality = 0.5 + 0.3 * (shots.match[:, 0] - 0.5).nan_to_num(0.0)
    model.head.fit(shots, quality)
    found = model.head.predict(others)
    assert np.corrcoef(found.mean, others.match[:, 0])[0, 1] > 0.95
    plain.head.fit(shots, quality)
    assert abs(np.corrcoef(plain.head.predict(others).mean, others.match[:, 0])[0, 1]) < 0.7

    row = dict(zip(("a", "l", "noise"), model.head.hyperparameters[0, 3:6].tolist(), strict=True))
    one = built(miniature, "gp", f"head.linear=[{row['a']}]", f"head.noise=[{row['noise']}]", "head.match_weight=0.5")
    one.head.fit(shots, quality)
    c = shots.match[:, 0].double()
    mean, std = c[3:].mean(), c[3:].std(correction=0)
    c, d = (((each - mean) / std).nan_to_num(0.0) for each in (c, others.match[:, 0].double()))
    x, new = one.head.standardize(shots.matrix()), one.head.standardize(others.matrix())
    k = one.head.kernel(x, x, row["a"], row["l"]) + 0.5 * torch.outer(c, c) + row["noise"] * torch.eye(40).double()
    cross = one.head.kernel(x, new, row["a"], row["l"]) + 0.5 * torch.outer(c, d)
    y = quality.double()
    expected = y.mean() + cross.T @ torch.linalg.solve(k, y - y.mean())
    torch.testing.assert_close(one.head.predict(others).mean, expected.float(), atol=1e-5, rtol=0)

    missing = model.head.predict(replace(others, match=None))
    average = model.head.predict(replace(others, match=torch.full((20, 1), float(mean))))
    torch.testing.assert_close(missing.mean, average.mean, atol=1e-5, rtol=0)
    save(tmp_path / "gp", model, settings, {})
    again, _, _ = load(tmp_path / "gp")
    assert torch.equal(again.head.predict(others).mean, found.mean)


def test_ratings_that_are_better_known_weigh_more(miniature, tmp_path):
    """By scikit-learn's process with a noise of its own for each shot."""
    one = ["head.linear=[0.1]", "head.noise=[0.1]"]
    settings = load_config("gp", [f"clip={miniature}", "views.crop=32", *one])
    model = build(settings)
    width = model.clip.pooled_width
    shots, others, quality = pooled(seeded(12, width)), pooled(seeded(5, width)), seeded(12)
    model.head.fit(shots, quality)
    alone, scale = model.head.predict(others).mean, float(model.head.hyperparameters[0, -1])
    model.head.fit(shots, quality, variance=torch.full((12,), 0.3))
    torch.testing.assert_close(model.head.predict(others).mean, alone)  # all as well known

    variance = torch.tensor([0.1, 2.0] * 6)
    model.head.fit(shots, quality, variance=variance)
    found = model.head.predict(others)
    x, new = (model.head.standardize(some.matrix()) for some in (shots, others))
    noise = 0.1 + (variance - 0.1).double() / scale
    k = model.head.kernel(x, x, 0.1, 4.0)
    y, cross = quality.double(), model.head.kernel(x, new, 0.1, 4.0)
    expected = y.mean() + cross.T @ torch.linalg.solve(k + noise.diag(), y - y.mean())
    torch.testing.assert_close(found.mean, expected.float(), atol=1e-5, rtol=0)
    assert not torch.allclose(found.mean, alone, atol=1e-3)
    save(tmp_path / "gp", model, settings, {})
    again, _, _ = load(tmp_path / "gp")
    assert torch.equal(again.head.predict(others).mean, found.mean)


def test_a_prior_mean_is_learned_from_distorted_copies(miniature, tmp_path):
    """It predicts before any shot, is what the shots are compared with, and comes back from a checkpoint."""
    settings = load_config("gp", [f"clip={miniature}", "views.crop=32", "head.synthetic_mean_weight=0.5"])
    model = build(settings)
    assert model.lacks_zero_shot_score
    width = model.clip.pooled_width
    direction, clean = seeded(width), seeded(60, width)
    lost = seeded(60).abs()
    distorted = clean - lost[:, None] * direction
    model.head.fit_prior(pooled(clean), pooled(distorted), 0.9 - lost / 5, torch.full((60,), 0.9))
    assert not model.lacks_zero_shot_score
    others = pooled(seeded(1, width) + seeded(7)[:, None] * direction)
    before = model.head.predict(others)
    assert before.std is None
    assert np.corrcoef(before.mean, others.matrix() @ direction)[0, 1] > 0.9
    save(tmp_path / "gp", model, settings, {})
    again, _, _ = load(tmp_path / "gp")
    assert not again.head.is_fitted
    assert torch.equal(again.head.predict(others).mean, before.mean)

    shots, quality = pooled(seeded(9, width)), seeded(9)
    prior = (0.5 * model.head.predict(shots).mean).float()
    without = built(miniature, "gp").head
    without.fit(shots, quality - prior)
    model.head.fit(shots, quality)
    after = model.head.predict(others)
    torch.testing.assert_close(after.mean, without.predict(others).mean + 0.5 * before.mean.float(), atol=1e-5, rtol=0)


def test_a_linear_prior_is_the_discriminant_of_its_equation():
    clean, distorted, quality = seeded(40, 6).double(), seeded(40, 6).double() - 1, seeded(40).double().sigmoid()
    weight, bias = linear_prior(clean, distorted, quality, torch.full((40,), 0.9), [slice(0, 2), slice(2, 5)])
    every = torch.cat([clean, distorted]).numpy()
    z = (every - every.mean(0)) / every.std(0)
    lost, projected = 0.9 - quality.numpy(), 0
    for group in (slice(0, 2), slice(2, 5)):
        covariance = np.cov(z[:40, group].T, bias=True)
        covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        part = z[:, group] @ np.linalg.solve(covariance, (z[:40, group] - z[40:, group]).T @ lost / 40)
        projected = projected + part / part.std()
    both = np.concatenate([np.full(40, 0.9), quality.numpy()])
    slope, start = np.polyfit(projected, both, 1)
    np.testing.assert_allclose(every @ weight.numpy() + bias, slope * projected + start, atol=1e-9)
    assert weight[5] == 0


def test_of_several_views_the_mean_counts(model):
    images = seeded(2, 3, 3, 32, 32)
    with torch.no_grad():
        output = model(images, branches=["scene"])
        each = [model(images[:, i], branches=["scene"]) for i in range(3)]
    assert torch.allclose(output.mean, torch.stack([one.mean for one in each]).mean(0), atol=1e-6)
    expected = torch.stack([one.logits["scene"] for one in each]).mean(0)
    assert torch.allclose(output.logits["scene"], expected, atol=1e-4)


@pytest.mark.parametrize("method", ["coop", "linear", "clip_iqa"])
def test_features_stand_for_the_pictures(miniature, method):
    settings = load_config(method, [f"clip={miniature}", "views.crop=32"])
    model, images = build(settings), seeded(2, 3, 3, 32, 32)
    assert model.has_frozen_features(settings.adapt.trainable if settings.adapt else [])
    assert not model.has_frozen_features(["clip.visual.ln_post.*"])
    if method == "linear":
        torch.nn.init.normal_(model.head.weight)
    with torch.no_grad():
        expected, found = model(images), model(features_of(model, images))
    assert torch.allclose(found.mean, expected.mean, atol=1e-6)
    assert found.logits.keys() == expected.logits.keys()
    assert expected.mean[0] != expected.mean[1]


def test_a_tower_has_frozen_features_where_it_and_its_prompts_stay(model):
    assert model.has_frozen_features([])
    assert model.has_frozen_features(["text.quality.*", "clip.transformer.*"])
    assert not model.has_frozen_features(["visual.main.tokens"])
    assert not model.has_frozen_features(["clip.visual.proj"])


@pytest.mark.parametrize(
    ("globs", "layers"),
    [
        (["text.*"], 12),
        (["clip.visual.ln_post.*"], 12),
        (["clip.visual.transformer.resblocks.4.*", "clip.visual.transformer.resblocks.1*.mlp.*"], 1),
        (["clip.visual.transformer.resblocks.[79].*"], 7),
        (["visual.*"], None),  # without a stem, nothing worth keeping
        (["clip.visual.conv1.*"], None),
    ],
)
def test_how_many_layers_stay(model, globs, layers):
    assert model.frozen_layers(globs) == layers


def test_shallow_prompts_stay_among_the_tokens(miniature):
    settings = load_config("grmp", [f"clip={miniature}", "views={crop: 32}", "model.visual.main.depth=3"])
    assert build(settings).frozen_layers(["clip.visual.transformer.resblocks.8.*"]) == 2


def test_the_mean_over_views_keeps_what_a_head_predicts(miniature):
    """Pooled features are averaged, and so are the probabilities that logits give."""
    overrides = [f"clip={miniature}", "views={crop: 32}", "model.visual.main.length=2"]
    model = build(load_config("gp_prompts", overrides))
    state = model.encode_prompts()
    features = model.compare(features_of(model, seeded(4, 3, 3, 32, 32)), state, ["quality"])
    with torch.no_grad():
        model.head.fit(features, seeded(4))
        torch.testing.assert_close(
            model.head.predict(features.mean_over_views()).mean, model.head.predict(features).mean
        )
