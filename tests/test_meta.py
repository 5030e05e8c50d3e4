"""Meta-learning: algorithms against their definitions, engines against each other, second order against differences."""

import dataclasses
import math
import sys

import pytest
import torch
from torch.func import functional_call

from fewshot_iqa import rng
from fewshot_iqa.config import MetaSpec, load_config
from fewshot_iqa.errors import InputError
from fewshot_iqa.inner import Objective, adapt
from fewshot_iqa.losses import WeightedSum
from fewshot_iqa.meta import RATE, learned_rates, make_optimizer, meta_gradient, outer_step, require_finite
from fewshot_iqa.model.checkpoint import build
from fewshot_iqa.types import Batch, Episode

PROMPTS = ["text.quality.*", "visual.*"]
LR = 0.3
STEP = 1e-6


def a_spec(**keys) -> MetaSpec:
    given = {"trainable": PROMPTS, "steps": 1, "inner_optimizer": "sgd", "inner_lr": LR}
    return MetaSpec(**(given | keys))


def a_batch(key: int, n: int = 3) -> Batch:
    noise = rng.generator(key, "batch")
    images, quality = torch.rand(n, 3, 32, 32, generator=noise), torch.rand(n, generator=noise)
    return Batch(images.double(), {"quality": quality.double()})


EPISODES = [Episode(str(i), a_batch(2 * i), a_batch(2 * i + 1, 2)) for i in range(2)]


@pytest.fixture
def model(small):
    with rng.scoped(0, "model"):
        model = build(load_config("grmp", small)).double()
    model.clip.logit_scale.data.fill_(2.0)  # so that no step leaves the range where differences can be taken
    return model


@pytest.fixture
def params(model):
    return model.train_only(PROMPTS)


@pytest.fixture
def loss(small):
    return WeightedSum(load_config("grmp", small).loss)


def values(params):
    return {name: value.detach().clone() for name, value in params.items()}


def assert_close(one, two, atol):
    assert set(one) == set(two)
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=atol, rtol=0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_inner_steps_are_torchs_and_leave_the_shared_parameters(model, params, loss, optimizer):
    before, batches = values(params), [a_batch(1), a_batch(2)]
    adapted, losses = adapt(Objective(model, loss), params, batches, a_spec(inner_optimizer=optimizer))
    assert_close(values(params), before, 0)
    theirs = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](params.values(), lr=LR)
    for batch, seen in zip(batches, losses, strict=True):
        theirs.zero_grad()
        value = loss(model(batch.inputs), batch.targets)
        value.backward()
        assert seen == pytest.approx(value.item(), abs=1e-10)
        theirs.step()
    assert_close(values(adapted), values(params), 1e-8)


def test_bilevel_and_reptile_go_the_mean_way_back(model, params, loss):
    start = values(params)
    for algorithm in ("bilevel", "reptile"):
        spec = a_spec(algorithm=algorithm, inner_steps=2, inner_optimizer="adam", outer_lr=1.0)
        direction, seen = meta_gradient(model, params, EPISODES, loss, spec)
        ends, last = [], []
        for episode in EPISODES:
            both = Batch(
                torch.cat([episode.support.inputs, episode.query.inputs]),
                {"quality": torch.cat([episode.support.targets["quality"], episode.query.targets["quality"]])},
            )
            steps = [both] * 2 if algorithm == "reptile" else [episode.support] * 2 + [episode.query]
            end, losses = adapt(Objective(model, loss), params, steps, spec)
            ends.append(end)
            last.append(losses[-1])
        assert seen == pytest.approx(sum(last) / 2, abs=1e-12)
        mean = {name: (ends[0][name] + ends[1][name]).detach() / 2 for name in start}
        assert_close(direction, {name: start[name] - mean[name] for name in start}, 1e-12)
    outer_step(make_optimizer(params, spec), params, direction, spec)
    assert_close(values(params), mean, 1e-12)


def test_joint_training_is_the_plain_gradient(model, params, loss):
    direction, value = meta_gradient(model, params, EPISODES[:1], loss, a_spec(algorithm="joint"))
    support, query = EPISODES[0].support, EPISODES[0].query
    images, quality = (torch.cat(pair) for pair in (
        (support.inputs, query.inputs), (support.targets["quality"], query.targets["quality"])
    ))  # fmt: skip
    expected = loss(model(images), {"quality": quality})
    assert value == pytest.approx(expected.item(), abs=1e-12)
    assert_close(direction, dict(zip(params, torch.autograd.grad(expected, params.values()), strict=True)), 1e-12)


def test_fomaml_is_the_gradient_where_the_inner_steps_end(model, params, loss):
    spec, (episode, _) = a_spec(algorithm="fomaml", inner_steps=3), EPISODES
    direction, seen = meta_gradient(model, params, [episode], loss, spec)
    end, _ = adapt(Objective(model, loss), params, [episode.support] * 3, spec)
    end = {name: value.detach().requires_grad_() for name, value in end.items()}
    value = loss(functional_call(model, end, (episode.query.inputs,)), episode.query.targets)
    assert seen == pytest.approx(value.item(), abs=1e-12)
    assert_close(direction, dict(zip(end, torch.autograd.grad(value, end.values()), strict=True)), 1e-12)


def after_inner_steps(model, params, loss, spec, shift, epsilon):
    moved = {name: (value + epsilon * shift[name]).detach().requires_grad_() for name, value in params.items()}
    end, _ = adapt(Objective(model, loss), moved, [EPISODES[0].support] * spec.inner_steps, spec)
    query = EPISODES[0].query
    return loss(functional_call(model, end, (query.inputs,)), query.targets).item()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("recompute", [False, True])
def test_second_order_against_central_differences(model, params, loss, optimizer, steps, recompute):
    spec = a_spec(
        algorithm="maml", inner_optimizer=optimizer, inner_steps=steps, recompute=recompute,
        inner_lr=LR if optimizer == "sgd" else 1e-3,
    )  # fmt: skip
    gradient, _ = meta_gradient(model, params, EPISODES[:1], loss, spec)
    first_order, _ = meta_gradient(
        model, params, EPISODES[:1], loss, a_spec(**spec.model_dump() | {"algorithm": "fomaml", "recompute": False})
    )
    for key in range(3):
        noise = rng.generator(key, "shift")
        shift = {name: torch.randn(value.shape, generator=noise).double() for name, value in params.items()}
        length = torch.cat([value.flatten() for value in shift.values()]).norm()
        shift = {name: value / length for name, value in shift.items()}
        along, first = (
            sum((some[name] * shift[name]).sum().item() for name in params) for some in (gradient, first_order)
        )
        ahead, behind = (after_inner_steps(model, params, loss, spec, shift, e) for e in (STEP, -STEP))
        difference = (ahead - behind) / (2 * STEP)
        assert along == pytest.approx(difference, rel=1e-4, abs=1e-7)
    if (optimizer, steps) != ("adam", 1):  # Adam's first step goes by the sign of the gradient, which hardly changes
        assert abs(first - difference) > 1e-3 * abs(difference)  # the second order is there


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("algorithm", ["fomaml", "maml", "bilevel", "reptile"])
@pytest.mark.parametrize("engine", ["higher", "learn2learn"])
def test_engines_agree(model, params, loss, algorithm, steps, engine):
    model.train().visual["main"].dropout.p = 0.5  # drawn alike
    if engine == "learn2learn":
        pytest.importorskip("learn2learn", exc_type=ImportError)
    spec = a_spec(algorithm=algorithm, inner_steps=steps)
    with rng.scoped(0, "dropout"):
        expected, ours = meta_gradient(model, params, EPISODES, loss, spec)
    with rng.scoped(0, "dropout"):
        found, theirs = meta_gradient(model, params, EPISODES, loss, spec.model_copy(update={"engine": engine}))
    assert theirs == pytest.approx(ours, abs=1e-12)
    assert_close(found, expected, 1e-11)
    assert max(value.abs().max() for value in expected.values()) > 1e-3


def test_recomputing_changes_nothing_even_with_dropout(model, params, loss):
    model.visual["main"].dropout.p = 0.5
    model.train()
    found = []
    for recompute in (False, True):
        spec = a_spec(algorithm="maml", inner_steps=2, recompute=recompute)
        with rng.scoped(0, "dropout"):
            found.append(meta_gradient(model, params, EPISODES, loss, spec))
    assert found[0][1] == found[1][1]
    assert_close(found[0][0], found[1][0], 1e-12)


@pytest.mark.parametrize("algorithm", ["fomaml", "maml"])
def test_learned_rates_against_central_differences(model, params, loss, algorithm):
    spec = a_spec(algorithm=algorithm, inner_steps=1, learn_lr=True)
    rates = learned_rates(params, spec)
    gradient, _ = meta_gradient(model, params | rates, EPISODES[:1], loss, spec)
    plain, _ = meta_gradient(model, params, EPISODES[:1], loss, a_spec(algorithm=algorithm))
    assert_close({name: gradient[name] for name in params}, plain, 1e-7)
    for name in params:
        ends = []
        for epsilon in (STEP, -STEP):
            rates[RATE + name].data += epsilon
            _, value = meta_gradient(model, params | rates, EPISODES[:1], loss, spec)
            ends.append(value)
            rates[RATE + name].data -= epsilon
        difference = (ends[0] - ends[1]) / (2 * STEP)
        assert gradient[RATE + name].item() == pytest.approx(difference, rel=1e-4, abs=1e-8)


def test_clipping_bounds_the_outer_step(params):
    before = values(params)
    direction = {name: torch.full_like(value, 3.0) for name, value in params.items()}
    spec = a_spec(clip_norm=0.5, outer_lr=1.0)
    outer_step(make_optimizer(params, spec), params, direction, spec)
    moved = torch.cat([(params[name].detach() - before[name]).flatten() for name in params])
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-5)


def test_a_step_without_a_finite_direction_names_its_tensor(params):
    name, spec = next(iter(params)), a_spec(outer_lr=1e9)
    direction = {each: torch.ones_like(value) for each, value in params.items()}
    require_finite(7, 0.5, direction, spec)
    require_finite(7, 0.5, direction | {name: torch.full_like(params[name], 1.5e308)}, a_spec(outer_lr=0.5))
    for loss, wrong, message in [
        (0.5, math.nan, f"step 7 of meta-training: the loss is 0.5, the direction of {name} is not finite"),
        (0.5, 1e308, f"the direction of {name} is not finite: lower meta.inner_lr"),  # times the rate
        (math.inf, 1.0, r"step 7 of meta-training: the loss is inf: lower meta.inner_lr"),
    ]:
        direction[name] = torch.full_like(params[name], wrong)
        with pytest.raises(InputError, match=message):
            require_finite(7, loss, direction, spec)


def test_bf16_stays_out_of_second_order(model, params, loss):
    seen = []

    class Spy(WeightedSum):
        def __call__(self, output, targets):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().__call__(output, targets)

    model.float()
    episode = Episode("e", *(dataclasses.replace(
        batch, inputs=batch.inputs.float(), targets={"quality": batch.targets["quality"].float()}
    ) for batch in (EPISODES[0].support, EPISODES[0].query)))  # fmt: skip
    exact, _ = meta_gradient(model, params, [episode], loss, a_spec(algorithm="maml"))
    rough, _ = meta_gradient(model, params, [episode], Spy(loss.terms), a_spec(algorithm="maml", bf16=True))
    assert seen == [False, True]
    one, two = (torch.cat([some[name].flatten() for name in params]) for some in (exact, rough))
    assert torch.cosine_similarity(one, two, dim=0) > 0.98
    seen.clear()
    meta_gradient(model, params, [episode], Spy(loss.terms), a_spec(algorithm="fomaml", bf16=True))
    assert seen == [True, True]


def test_a_parameter_without_a_gradient_is_absent_or_stays(small, loss):
    model = build(load_config("grmp", [*small, "model.branches.scene.context=2"])).double()
    params = model.train_only(["text.*", "visual.*"])
    for algorithm in ("fomaml", "maml", "joint"):
        direction, _ = meta_gradient(model, params, EPISODES, loss, a_spec(algorithm=algorithm))
        assert set(params) - set(direction) == {"text.scene.context"}
    direction, _ = meta_gradient(model, params, EPISODES, loss, a_spec(algorithm="bilevel"))
    assert not direction["text.scene.context"].any()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["meta.engine=learn2learn"], "SGD alone"),
        (["meta.learn_lr=true"], "needs the engine func"),
        (["meta.algorithm=maml", "meta.engine=higher", "meta.learn_lr=true"], "needs the engine func"),
        (["meta.algorithm=fomaml", "meta.recompute=true"], "is for the engine func and maml"),
    ],
)
def test_combinations_that_cannot_be(overrides, said):
    with pytest.raises(InputError, match=said):
        load_config("grmp", overrides)


def test_without_learn2learn_the_error_says_how_to_get_it(model, params, loss, monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    with pytest.raises(InputError, match="make learn2learn"):
        meta_gradient(model, params, EPISODES, loss, a_spec(algorithm="maml", engine="learn2learn"))
