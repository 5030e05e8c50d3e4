"""Properties that hold whatever the numbers: of splits, shots, leakage, direction, metrics, votes and crops."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fewshot_iqa import metrics
from fewshot_iqa.config import ViewSpec
from fewshot_iqa.data.splits import draw_shots, folds_by_group, split_by_group
from fewshot_iqa.errors import InputError
from fewshot_iqa.evaluation import compare, over_trials
from fewshot_iqa.images import fixed_views, random_view
from fewshot_iqa.recipes.draws import draw_trials
from fewshot_iqa.recipes.sources import read_source
from fewshot_iqa.rng import generator
from fewshot_iqa.types import Prediction, Record, Scale, Shots
from fewshot_iqa.votes import (
    Pairs,
    Votes,
    agreement_with_others,
    agreement_with_self,
    bradley_terry,
    ceiling,
    mean_opinions,
    outlying_raters,
    subject_model,
)

settings.register_profile("properties", deadline=None, max_examples=20)
PROPERTIES = settings.get_profile("properties")
SEEDS = st.integers(0, 5)
GROUPS = st.lists(st.integers(0, 8), min_size=2, max_size=40).filter(lambda groups: len(set(groups)) > 1)


def records(groups):
    return [Record(Path(f"{i}.png"), float(i), f"group {group}") for i, group in enumerate(groups)]


def shuffled(items, seed):
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))]


def groups_of(some):
    return {record.group for record in some}


# Splits and shots


@PROPERTIES
@given(GROUPS, st.floats(0.01, 0.99), SEEDS, SEEDS)
def test_a_split_has_whole_groups_and_all_records_whatever_their_order(groups, share, seed, order):
    items = records(groups)
    pool, test = split_by_group(items, share, seed=seed)
    assert not groups_of(pool) & groups_of(test)
    assert sorted(pool + test, key=items.index) == items
    count = len(set(groups))
    assert len(groups_of(test)) == min(max(round(share * count), 1), count - 1)
    again = split_by_group(shuffled(items, order), share, seed=seed)
    assert [set(side) for side in again] == [set(pool), set(test)]


def test_one_group_cannot_be_split():
    with pytest.raises(InputError, match=r"all 3 pictures are of one group \('group 7'\)"):
        split_by_group(records([7, 7, 7]), 0.5, seed=0)


@PROPERTIES
@given(GROUPS, st.integers(2, 5), SEEDS, SEEDS)
def test_folds_have_each_group_in_one_test_whatever_the_order(groups, folds, seed, order):
    items = records(groups)
    if len(set(groups)) < folds:
        with pytest.raises(InputError, match=f"--folds {folds}"):
            folds_by_group(items, folds, seed=seed)
        return
    found = folds_by_group(items, folds, seed=seed)
    assert sorted((r for _, test in found for r in test), key=items.index) == items
    sizes = [len(groups_of(test)) for _, test in found]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == len(set(groups))
    for pool, test in found:
        assert sorted(pool + test, key=items.index) == items
    again = folds_by_group(shuffled(items, order), folds, seed=seed)
    assert [set(test) for _, test in again] == [set(test) for _, test in found]


@PROPERTIES
@given(st.integers(4, 60), st.data(), SEEDS)
def test_fewer_shots_are_the_first_of_more(n, data, seed):
    pool = records(range(n))
    few, many = sorted(data.draw(st.tuples(st.integers(2, n), st.integers(2, n))))
    drawn = draw_shots(pool, Shots.parse(many), seed=seed)
    assert draw_shots(pool, Shots.parse(few), seed=seed) == drawn[:few]
    assert len(set(drawn)) == many
    share = Shots.parse(f"{100 * many / n}%")
    assert draw_shots(pool, share, seed=seed) == drawn


def test_other_seeds_draw_other_shots():
    pool = records(range(40))
    assert len({tuple(draw_shots(pool, Shots.parse(5), seed=seed)) for seed in range(10)}) == 10


@given(st.integers(-3, 300), st.integers(0, 50))
def test_shots_are_two_or_more_and_no_more_than_there_are(share, n):
    if not 0 < share <= 100:
        with pytest.raises(InputError, match="a share lies above 0% and at most at 100%"):
            Shots.parse(f"{share}%")
        return
    shots = Shots.parse(f"{share}%")
    if shots.fits(n):
        assert 2 <= shots.of(n) == round(share * n / 100) <= n
    else:
        with pytest.raises(InputError, match="at least two are needed"):
            shots.of(n)


# Tables: the order of rows, leakage, direction


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Files `{i}{content}.png`, of one content for each letter; tables are read without decoding them."""
    folder = tmp_path_factory.mktemp("copies")
    for i in range(8):
        for content in "abcd":
            (folder / f"{i}{content}.png").write_bytes(f"picture {content}".encode() * 10)
    return folder


CONTENTS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), min_size=3, max_size=8)


def drawn_from(folder, rows, seed, shots="100%", **options):
    frame = pd.DataFrame(rows, columns=["image", "score", "group"])
    rated = read_source(None, labels=frame, root=folder, group="group", **options)
    return draw_trials(rated, Shots.parse(shots), [seed])[0]


@PROPERTIES
@given(CONTENTS, SEEDS, st.floats(0.05, 0.95))
def test_equal_pictures_and_groups_are_never_on_two_sides(copies, contents, seed, share):
    rows = [(f"{i}{content}.png", i, f"g{group}") for i, (content, group) in enumerate(contents)]
    try:
        draw = drawn_from(copies, rows, seed, test=share)
    except InputError as error:
        said = str(error)
        assert any(reason in said for reason in ("of one group", "at least two", "all equal"))
        return
    sides = [{record.path.name for record in side} for side in (draw.shots, draw.test)]
    assert sum(map(len, sides)) == len(rows)
    for of in (lambda row: row[0][1], lambda row: row[2]):  # content, and group
        assert not {of(row) for row in rows if row[0] in sides[0]} & {of(row) for row in rows if row[0] in sides[1]}


@PROPERTIES
@given(CONTENTS, SEEDS, SEEDS)
def test_the_order_of_rows_draws_no_other_shots(copies, contents, seed, order):
    rows = [(f"{i}{content}.png", i, f"g{group}") for i, (content, group) in enumerate(contents)]
    assume(len({content for content, _ in contents}) > 2)
    assume(len({group for _, group in contents}) > 2)
    found = []
    for some in (rows, shuffled(rows, order)):
        try:
            draw = drawn_from(copies, some, seed, shots="60%", test=0.3)
        except InputError as error:
            found.append(str(error))
        else:
            found.append(([r.path for r in draw.shots], [r.path for r in draw.test], draw.scale))
    assert found[0] == found[1]


@PROPERTIES
@given(st.lists(st.integers(0, 20), min_size=6, max_size=6, unique=True), SEEDS)
def test_lower_is_better_turns_the_order_and_nothing_else(photographs, scores, seed):
    rows = [(f"photo{i}.png", score, f"{i}") for i, score in enumerate(scores)]
    plain, turned = (
        drawn_from(photographs, rows, seed, shots=3, test=0.4, lower_is_better=lower) for lower in (False, True)
    )
    assert [r.path for r in turned.pictures] == [r.path for r in plain.pictures]
    assert [r.rating for r in turned.pictures] == [r.rating for r in plain.pictures]
    assert (turned.scale.worst, turned.scale.best) == (plain.scale.best, plain.scale.worst)
    for record in plain.pictures:
        assert turned.scale.quality(record.rating) == pytest.approx(1 - plain.scale.quality(record.rating), abs=1e-9)
    shots = [plain.scale.quality(record.rating) for record in plain.shots]
    assert (min(shots), max(shots)) == (0, 1)  # no range is stated: the span of the shots


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_scale_is_its_own_inverse_and_keeps_its_direction(worst, best, one, two):
    assume(abs(worst - best) > 1e-3)
    scale = Scale(worst, best)
    assert scale.quality(worst) == 0
    assert scale.quality(best) == 1
    assert scale.rating(scale.quality(one)) == pytest.approx(one, abs=1e-6)
    if abs(one - two) > 1e-3:
        assert (scale.quality(one) < scale.quality(two)) == ((one < two) == (worst < best))


# Metrics

TIED = st.integers(2, 12).flatmap(lambda n: arrays(float, (2, n), elements=st.integers(0, 4)))


def by_definition(x, y):
    """SRCC, PLCC, KRCC and RMSE, nan where undefined, by sums over pairs."""
    n, pairs = len(x), [(i, j) for i in range(len(x)) for j in range(len(x))]

    def ranks(values):
        return [
            sum(other < one for other in values) + (sum(other == one for other in values) + 1) / 2 for one in values
        ]

    def pearson(a, b):
        products = [sum((p[i] - p[j]) * (q[i] - q[j]) for i, j in pairs) for p, q in ((a, b), (a, a), (b, b))]
        return products[0] / math.sqrt(products[1] * products[2]) if products[1] * products[2] > 0 else math.nan

    signs = [[np.sign(side[i] - side[j]) for i, j in pairs] for side in (x, y)]
    agreement, first, second = (np.dot(a, b) for a, b in (signs, [signs[0]] * 2, [signs[1]] * 2))
    tau = agreement / math.sqrt(first * second) if first * second > 0 else math.nan
    error = math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / n)
    return {"srcc": pearson(ranks(x), ranks(y)), "plcc": pearson(x, y), "krcc": tau, "rmse": error}


@PROPERTIES
@given(TIED)
def test_metrics_are_what_their_definitions_say_with_ties(sides):
    x, y = sides
    expected, found = by_definition(x, y), metrics.report(x, y)
    for name, value in expected.items():
        measured = getattr(metrics, name)(x, y)
        assert measured == pytest.approx(value, abs=1e-9, nan_ok=True)
        assert measured == pytest.approx(getattr(metrics, name)(y, x), abs=1e-9, nan_ok=True)
        assert found[name] == (None if math.isnan(value) else measured)
    if len(set(x)) > 1 and len(set(y)) > 1:
        for name, of in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr), ("krcc", stats.kendalltau)):
            assert found[name] == of(x, y).statistic


@PROPERTIES
@given(TIED, st.floats(0.1, 10), st.floats(-5, 5))
def test_ranks_ignore_monotone_maps_and_plcc_affine_ones(sides, factor, shift):
    x, y = sides
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    for name in ("srcc", "krcc"):
        metric = getattr(metrics, name)
        assert metric(np.exp(x), y) == pytest.approx(metric(x, y), abs=1e-9)
        assert metric(-(x**3), y) == pytest.approx(-metric(x, y), abs=1e-9)
    assert metrics.plcc(factor * x + shift, y) == pytest.approx(metrics.plcc(x, y), abs=1e-9)
    assert metrics.plcc(x, shift - factor * y) == pytest.approx(-metrics.plcc(x, y), abs=1e-9)


@PROPERTIES
@given(TIED, st.integers(0, 30))
def test_nan_is_never_a_number(sides, place):
    x, y = sides
    x = x.copy()
    x[place % len(x)] = math.nan
    assert set(metrics.report(x, y).values()) == {None}
    assert set(metrics.report(y, x).values()) == {None}
    assert np.isnan(metrics.srcc([1.0], [1.0]))


@PROPERTIES
@given(TIED)
def test_the_area_under_the_curve_is_a_share_of_pairs(sides):
    predicted, positive = sides[0], sides[1] > 1
    assume(0 < positive.sum() < len(positive))
    wins = [(a > b) + (a == b) / 2 for a in predicted[positive] for b in predicted[~positive]]
    assert metrics.auc(predicted, positive) == pytest.approx(np.mean(wins))


@given(*[st.none() | st.floats(-1, 1)] * 2, st.floats(0, 1))
def test_a_constant_prediction_is_selected_last(rank, linear, error):
    score = metrics.selection_score({"srcc": rank, "plcc": linear, "rmse": error})
    expected = sum(-1 if value is None else value for value in (rank, linear)) - error
    assert score == pytest.approx(expected)
    assert metrics.selection_score({"srcc": None, "plcc": None, "rmse": error}) <= score


@pytest.mark.parametrize("undefined", [0, 50, 51])
def test_a_bootstrap_interval_leaves_25_of_1000_resamples_on_either_side(undefined):
    values = iter([math.nan] * undefined + list(range(2000)))
    found = metrics.bootstrap_interval(lambda *_: next(values), [0, 1, 2], [0, 1, 2], ["a", "b", "b"])
    last = 1000 - undefined - 1
    assert found == (None if undefined > 50 else pytest.approx((0.025 * last, 0.975 * last)))


@settings(PROPERTIES, max_examples=4)
@given(st.lists(st.integers(0, 2), min_size=6, max_size=12).filter(lambda groups: len(set(groups)) > 1), SEEDS)
def test_resamples_are_of_whole_groups(groups, seed):
    x = np.arange(float(len(groups)))
    sizes = [groups.count(group) for group in dict.fromkeys(groups)]

    def metric(predicted, rated):
        assert np.array_equal(predicted, -rated)
        found = [groups[int(i)] for i in predicted]
        for group in set(groups):  # each member as often as another
            members = np.bincount(predicted.astype(int), minlength=len(groups))[np.array(groups) == group]
            assert len(set(members.tolist())) == 1
        assert sum(found.count(group) // groups.count(group) for group in set(groups)) == len(sizes)
        return float(predicted.mean())

    found = metrics.bootstrap_interval(metric, x, -x, groups, seed=seed)
    named = metrics.bootstrap_interval(metric, x, -x, [f"group {group}" for group in groups], seed=seed)
    assert found == named
    assert metrics.bootstrap_interval(metric, x, -x, [0] * len(x)) is None


@settings(PROPERTIES, max_examples=10)
@given(arrays(float, (2, 8), elements=st.integers(0, 3)))
def test_a_paired_difference_turns_with_its_sides(sides):
    found, turned = metrics.paired_difference(*sides), metrics.paired_difference(*sides[::-1])
    differences = [a - b for a, b in zip(*sides, strict=True)]
    assert found["draws"] == 8
    assert found["difference"] == pytest.approx(sum(differences) / 8)
    assert found["wins"] == sum(value > 0 for value in differences)
    assert found["wins"] + turned["wins"] + differences.count(0) == 8
    low, high = found["interval"]
    assert turned["interval"] == pytest.approx((-high, -low), abs=1e-9)
    assert min(differences) <= low <= high <= max(differences)
    assert metrics.paired_difference([1.0], [0.0])["interval"] is None


@PROPERTIES
@given(TIED, st.lists(st.sampled_from(["a", "b", None]), min_size=12, max_size=12), SEEDS)
def test_reports_pool_or_stay_within_subsets_whatever_the_order(sides, subsets, order):
    predicted, rated = sides / 4
    subsets = subsets[: len(rated)]
    std = 0.1 + predicted / 8
    prediction = Prediction(torch.from_numpy(predicted), torch.from_numpy(std))
    pooled = compare(prediction, rated.tolist(), subsets)
    half = stats.norm.ppf(0.95) * std
    assert pooled.metrics["coverage"] == np.mean(np.abs(predicted - rated) <= half)
    assert set(pooled.within) == {name for name in subsets if name}
    for name, found in pooled.within.items():
        rows = [i for i, subset in enumerate(subsets) if subset == name]
        of_rows = Prediction(prediction.mean[rows], prediction.std[rows])
        assert found == compare(of_rows, rated[rows].tolist()).metrics
    apart = compare(prediction, rated.tolist(), subsets, per_subset=True)
    assert apart.metrics == (over_trials(list(pooled.within.values()))[0] if pooled.within else pooled.metrics)
    rows = shuffled(range(len(rated)), order)
    again = compare(
        Prediction(prediction.mean[rows], prediction.std[rows]), rated[rows].tolist(), [subsets[i] for i in rows]
    )
    for name in ("srcc", "plcc", "krcc", "rmse", "coverage"):
        assert again.metrics[name] == pytest.approx(pooled.metrics[name], abs=1e-9)


@PROPERTIES
@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=9), SEEDS)
def test_medians_over_trials_are_numpys_whatever_the_order(values, order):
    trials = [{"srcc": value, "rmse": value} for value in values]
    median, iqr = over_trials(trials)
    assert over_trials(shuffled(trials, order)) == (median, iqr)
    known = [value for value in values if value is not None]
    if not known:
        assert median == iqr == {"srcc": None, "rmse": None}
        return
    with_zeros = known + [0.0] * (len(values) - len(known))  # a constant prediction has no correlation
    for name, some in (("rmse", known), ("srcc", with_zeros)):
        assert median[name] == pytest.approx(np.median(some))
        assert iqr[name] == pytest.approx(stats.iqr(some))


# Votes


@st.composite
def votes_of_all(draw, images=6):
    """Rows (image, rater, score) of raters who rate all, with gaps."""
    raters = draw(st.integers(3, 5))
    scores = draw(arrays(float, (images, raters), elements=st.integers(1, 5)))
    gaps = draw(st.lists(st.tuples(st.integers(0, images - 1), st.integers(0, raters - 1)), max_size=2))
    rows = [(f"i{j}", f"r{i}", scores[j, i]) for j in range(images) for i in range(raters) if (j, i) not in gaps]
    return rows, draw(SEEDS)


def named_alike(votes, rows, images, raters):
    """Row by row the same votes under other names."""
    return Votes.of([images[image] for image, *_ in rows], [raters[rater] for _, rater, _ in rows], votes.score)


@settings(PROPERTIES, max_examples=8)
@given(votes_of_all())
def test_the_order_of_votes_and_the_names_change_no_opinion(given_votes):
    rows, seed = given_votes
    votes = Votes.of(*zip(*rows, strict=True))
    images = {name: f"p{i}" for i, name in enumerate(shuffled(list(votes.images), seed))}
    raters = {name: f"q{i}" for i, name in enumerate(shuffled(list(votes.raters), seed))}
    mixed = shuffled(rows, seed)
    other = named_alike(Votes.of(*zip(*mixed, strict=True)), mixed, images, raters)
    at = [list(other.images).index(images[name]) for name in votes.images]
    who = [list(other.raters).index(raters[name]) for name in votes.raters]
    for mine, theirs in zip(vars(mean_opinions(votes)).values(), vars(mean_opinions(other)).values(), strict=True):
        np.testing.assert_allclose(theirs[at], mine, atol=1e-9)
    assert outlying_raters(other)[who].tolist() == outlying_raters(votes).tolist()
    np.testing.assert_allclose(agreement_with_others(other)[who], agreement_with_others(votes), atol=1e-9)
    same_order = named_alike(votes, rows, images, raters)
    assert ceiling(same_order) == ceiling(votes)
    assert agreement_with_self(same_order)[0].tolist() == pytest.approx(agreement_with_self(votes)[0], nan_ok=True)


@PROPERTIES
@given(votes_of_all(), st.floats(-3, 3))
def test_means_and_their_intervals_are_scipys(given_votes, shift):
    rows, _ = given_votes
    votes = Votes.of(*zip(*rows, strict=True))
    found = mean_opinions(votes)
    for j, name in enumerate(votes.images):
        scores = [score for image, _, score in rows if image == name]
        assert found.mos[j] == pytest.approx(np.mean(scores))
        assert found.count[j] == len(scores)
        if len(scores) > 1:
            assert found.std[j] == pytest.approx(np.std(scores, ddof=1))
            assert found.mos_std[j] == pytest.approx(stats.sem(scores))
            half = stats.sem(scores) * stats.t(len(scores) - 1).interval(0.95)[1]
            assert found.margin[j] == pytest.approx(half)
    moved = Votes(votes.images, votes.raters, votes.image, votes.rater, votes.score + shift)
    np.testing.assert_allclose(mean_opinions(moved).mos, found.mos + shift, atol=1e-9)
    np.testing.assert_allclose(mean_opinions(moved).std, found.std, atol=1e-9)


def test_the_subject_model_does_not_know_names_or_the_order_of_votes():
    noise = np.random.default_rng(0)
    quality, bias = noise.uniform(1, 5, 12), noise.normal(0, 0.5, 6)
    rows = [(f"i{j}", f"r{i}", quality[j] + bias[i] + noise.normal(0, 0.4)) for j in range(12) for i in range(6)]
    first, second = (subject_model(Votes.of(*zip(*some, strict=True))) for some in (rows, shuffled(rows, 1)))
    images, raters = (list(dict.fromkeys(row[k] for row in shuffled(rows, 1))) for k in (0, 1))
    at, who = [images.index(f"i{j}") for j in range(12)], [raters.index(f"r{i}") for i in range(6)]
    np.testing.assert_allclose(second.opinions.mos[at], first.opinions.mos, atol=1e-6)
    np.testing.assert_allclose(second.bias[who], first.bias, atol=1e-6)
    np.testing.assert_allclose(second.inconsistency[who], first.inconsistency, atol=1e-6)
    assert first.bias.mean() == pytest.approx(0, abs=1e-9)


MATCHES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0, 0.5, 1])).filter(lambda m: m[0] != m[1]),
    min_size=1,
    max_size=12,
)


@PROPERTIES
@given(MATCHES, SEEDS)
def test_strengths_do_not_know_names_sides_or_the_order_of_comparisons(matches, seed):
    def strengths(rows):
        pairs = Pairs.of([f"{a}" for a, *_ in rows], [f"{b}" for _, b, _ in rows], [won for *_, won in rows])
        theta, covariance = bradley_terry(pairs)
        return dict(zip(pairs.images, zip(theta, covariance.diagonal(), strict=True), strict=True))

    found = strengths(matches)
    renamed = shuffled(range(5), seed)
    others = {
        f"{name}": strengths(rows)
        for name, rows in (
            ("order", shuffled(matches, seed)),
            ("sides", [(b, a, 1 - won) for a, b, won in matches]),
        )
    }
    for other in others.values():
        assert {name: other[name] for name in found} == {
            name: pytest.approx(each, abs=1e-6) for name, each in found.items()
        }
    named = strengths([(renamed[a], renamed[b], won) for a, b, won in matches])
    assert all(named[f"{renamed[int(name)]}"] == pytest.approx(each, abs=1e-6) for name, each in found.items())
    turned = strengths([(a, b, 1 - won) for a, b, won in matches])
    assert all(turned[name][0] == pytest.approx(-theta, abs=1e-6) for name, (theta, _) in found.items())


# Crops


@PROPERTIES
@given(st.integers(16, 40), st.integers(16, 40), st.sampled_from([1, 5, 8]), st.none() | st.integers(1, 18))
def test_crops_lie_where_their_description_says(height, width, count, stride):
    picture = np.broadcast_to(np.arange(height * width, dtype=np.int64).reshape(1, height, width), (3, height, width))
    crops = fixed_views(picture, ViewSpec(crop=16, count=count, stride=stride))
    found = [divmod(int(crop[0, 0, 0]), width) for crop in crops]
    for (y, x), crop in zip(found, crops, strict=True):
        assert np.array_equal(crop, picture[:, y : y + 16, x : x + 16])
    down, right = height - 16, width - 16
    centre, corners = (down // 2, right // 2), [(0, 0), (0, right), (down, 0), (down, right)]
    edges = [(0, right // 2), (down, right // 2), (down // 2, 0), (down // 2, right)]
    if stride is None:
        assert sorted(found) == sorted({1: [centre], 5: [centre, *corners], 8: [*corners, *edges]}[count])
        return
    for steps, span in ((sorted({y for y, _ in found}), down), (sorted({x for _, x in found}), right)):
        assert (steps[0], steps[-1]) == (0, span)
        assert len(steps) == math.ceil(span / stride) + 1
        assert max(np.diff(steps), default=0) <= stride
    assert len(set(found)) == len(found) == len({y for y, _ in found}) * len({x for _, x in found})


def test_random_crops_are_anywhere_and_mirrored_in_half_of_the_cases():
    picture = np.broadcast_to(np.arange(10 * 11).reshape(1, 10, 11), (3, 10, 11))
    noise, places, mirrored = generator(0, "crops"), set(), 0
    for _ in range(400):
        view = random_view(picture, 8, noise)
        assert view.shape == (3, 8, 8)
        turned = int(view[0, 0, 0]) > int(view[0, 0, 1])
        view, mirrored = (view[:, :, ::-1] if turned else view), mirrored + turned
        y, x = divmod(int(view[0, 0, 0]), 11)
        assert np.array_equal(view, picture[:, y : y + 8, x : x + 8])
        places.add((y, x))
    assert places == {(y, x) for y in range(3) for x in range(4)}
    assert stats.binomtest(mirrored, 400).pvalue > 0.001
