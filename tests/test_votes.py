"""Mean opinion scores: against sureal, choix and simulated raters."""

import contextlib
import io

import choix
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sureal.dataset_reader import RawDatasetReader
from sureal.subjective_model import MosModel, SubjectMLEModelProjectionSolver, SubjrejMosModel

import fewshot_iqa
from fewshot_iqa.config import AdaptSpec, ViewSpec
from fewshot_iqa.data.loading import Loader
from fewshot_iqa.data.votes import read_votes, variance_of_means
from fewshot_iqa.errors import InputError, InputWarning
from fewshot_iqa.recipes.fitting import ratings_variance, shot_batches
from fewshot_iqa.recipes.ratings import summarize_votes
from fewshot_iqa.recipes.sources import read_source
from fewshot_iqa.recipes.trunk import Crops
from fewshot_iqa.types import Scale
from fewshot_iqa.votes import (
    Pairs,
    Votes,
    agreement_with_others,
    agreement_with_self,
    bradley_terry,
    ceiling,
    ceiling_of_means,
    mean_opinions,
    outlying_raters,
    subject_model,
)

IMAGES, RATERS = 40, 12


def simulated(seed, *, missing=0.0, repeats=0, careless=0):
    """Votes with biases, inconsistencies, gaps and repeats; the first `careless` raters guess."""
    noise = np.random.default_rng(seed)
    quality = noise.uniform(1, 5, IMAGES)
    bias, inconsistency = noise.normal(0, 0.3, RATERS), noise.uniform(0.3, 0.8, RATERS)
    rows = []
    for i in range(RATERS):
        for j in [*range(IMAGES), *range(repeats)]:
            if noise.random() >= missing:
                score = (
                    noise.uniform(0, 6) if i < careless else quality[j] + bias[i] + inconsistency[i] * noise.normal()
                )
                rows.append((f"image{j}", f"rater{i}", score))
    return quality, Votes.of(*zip(*rows, strict=True))


def by_sureal(model, votes):
    """What sureal computes of the same votes, in the order of our images."""
    scores = [{} for _ in votes.images]
    for j, i, score in zip(votes.image, votes.rater, votes.score, strict=True):
        scores[j].setdefault(votes.raters[i], []).append(float(score))

    class Dataset:
        ref_videos = [{"content_id": 0, "content_name": "c", "path": ""}]  # noqa: RUF012
        dis_videos = [  # noqa: RUF012
            {"content_id": 0, "asset_id": j, "path": "", "os": os} for j, os in enumerate(scores)
        ]

    with contextlib.redirect_stdout(io.StringIO()), np.errstate(invalid="ignore", divide="ignore"):
        return model(RawDatasetReader(Dataset)).run_modeling()


@pytest.mark.parametrize("missing", [0, 0.3])
def test_means_are_those_of_sureal(missing):
    votes = simulated(0, missing=missing, repeats=5)[1]
    ours, theirs = mean_opinions(votes), by_sureal(MosModel, votes)
    np.testing.assert_allclose(ours.mos, theirs["quality_scores"], atol=1e-6)
    np.testing.assert_allclose(ours.mos_std, theirs["quality_scores_std"], atol=1e-6)
    np.testing.assert_allclose(ours.std, theirs["quality_ambiguity"], atol=1e-6)
    np.testing.assert_allclose(ours.margin, stats.t.ppf(0.975, ours.count - 1) * ours.mos_std)


@pytest.mark.parametrize("careless", [0, 1, 3])
def test_outlying_raters_are_those_of_sureal(careless):
    votes = simulated(careless, careless=careless)[1]
    theirs = by_sureal(SubjrejMosModel, votes)
    order = [theirs["observers"].index(name) for name in votes.raters]
    rejected = outlying_raters(votes)
    assert rejected.tolist() == np.array(theirs["observer_rejected"])[order].tolist()
    assert rejected[:careless].any() == (careless > 0)
    np.testing.assert_allclose(mean_opinions(votes.of_raters(~rejected)).mos, theirs["quality_scores"], atol=1e-6)


def test_unanimous_votes_outlie_nobody():
    votes = Votes.of(["a", "a", "b", "b"], ["x", "y", "x", "y"], [3, 3, 4, 4])
    assert not outlying_raters(votes).any()


def test_a_vote_at_two_deviations_is_far_off_whatever_the_order():
    """One of five votes that differs lies there exactly: nothing may depend on how sums are rounded."""
    scores = {
        "a": [3, 3, 3, 3, 1],
        "b": [2, 2, 2, 2, 4],
        "c": [0.3, 0.3, 0.3, 0.3, 0.1],
        "d": [0.2, 0.2, 0.2, 0.2, 0.4],
    }
    rows = [(image, f"r{i}", score) for image, each in scores.items() for i, score in enumerate(each)]
    for shift in range(len(rows)):
        votes = Votes.of(*zip(*rows[shift:], *rows[:shift], strict=True))
        rejected = outlying_raters(votes)
        assert [name for name, out in zip(votes.raters, rejected, strict=True) if out] == ["r4"]


@pytest.mark.parametrize("missing", [0, 0.3])
def test_the_subject_model_is_that_of_sureal(missing):
    votes = simulated(1, missing=missing, repeats=5)[1]
    ours, theirs = subject_model(votes), by_sureal(SubjectMLEModelProjectionSolver, votes)
    order = [theirs["observers"].index(name) for name in votes.raters]
    np.testing.assert_allclose(ours.opinions.mos, theirs["quality_scores"], atol=1e-6)
    np.testing.assert_allclose(ours.opinions.mos_std, theirs["quality_scores_std"], atol=1e-6)
    np.testing.assert_allclose(ours.bias, np.array(theirs["observer_bias"])[order], atol=1e-6)
    np.testing.assert_allclose(ours.inconsistency, np.array(theirs["observer_inconsistency"])[order], atol=1e-6)


def test_the_subject_model_is_nearer_to_the_truth_than_the_mean():
    gains = []
    for seed in range(10):
        quality, votes = simulated(seed, missing=0.5, careless=2)
        errors = [np.std(mos - quality[[int(n[5:]) for n in votes.images]]) for mos in (
            mean_opinions(votes).mos, subject_model(votes).opinions.mos)]  # fmt: skip
        gains.append(errors[0] - errors[1])
    assert min(gains) > 0


def test_agreement_is_that_of_scipy():
    votes = simulated(2)[1]
    table = np.full((RATERS, IMAGES), np.nan)
    table[votes.rater, votes.image] = votes.score
    expected = [stats.spearmanr(row, np.delete(table, i, 0).mean(0)).statistic for i, row in enumerate(table)]
    np.testing.assert_allclose(agreement_with_others(votes), expected)
    alone = Votes.of(["a", "b"], ["x", "x"], [1, 2])
    assert np.isnan(agreement_with_others(alone)).all()


def test_a_rater_agrees_with_himself():
    votes = Votes.of([*"abcdef", *"abcdef", "a"], [*["x"] * 12, "y"], [1, 2, 3, 4, 5, 4, 2, 2, 3, 4, 5, 3, 1])
    correlation, std = agreement_with_self(votes)
    expected = stats.spearmanr([1, 2, 3, 4, 5, 4], [2, 2, 3, 4, 5, 3]).statistic
    np.testing.assert_allclose(correlation, [expected, np.nan])
    np.testing.assert_allclose(std, [np.sqrt(2 / 6 / 2), np.nan])


def test_the_ceiling_is_what_the_truth_reaches():
    """Over many simulated tables, the truth has the SRCC and PLCC with their means that each table foretells."""
    found, reached = [], []
    for seed in range(30):
        quality, votes = simulated(seed, missing=0.7)
        truth = quality[[int(name[5:]) for name in votes.images]]
        mos = mean_opinions(votes).mos
        found.append([ceiling(votes)[name] for name in ("srcc", "plcc")])
        reached.append([stats.spearmanr(truth, mos).statistic, stats.pearsonr(truth, mos).statistic])
    np.testing.assert_allclose(np.mean(found, 0), np.mean(reached, 0), atol=0.015)


@pytest.mark.parametrize(
    ("model", "raters", "bias", "missing"),
    [("mean", 3, 1.0, 0.0), ("mean", 5, 0.8, 0.0), ("mean", 5, 0.8, 0.5), ("p913", 12, 0.8, 0.5)],
)
def test_the_ceiling_knows_the_biases_of_raters(model, raters, bias, missing):
    found, reached = [], []
    for seed in range(20):
        noise = np.random.default_rng(seed)
        truth, offset = noise.normal(3, 1, 100), noise.normal(0, bias, raters)
        rows = [
            (f"{j}", f"{i}", truth[j] + offset[i] + 0.4 * noise.normal())
            for i in range(raters) for j in range(100) if noise.random() >= missing
        ]  # fmt: skip
        votes = Votes.of(*zip(*rows, strict=True))
        mos = (mean_opinions(votes) if model == "mean" else subject_model(votes).opinions).mos
        if np.isfinite(mos).all():
            found.append(ceiling(votes, has_bias=model == "mean")["plcc"])
            reached.append(stats.pearsonr(truth[[int(name) for name in votes.images]], mos).statistic)
    assert np.mean(found) == pytest.approx(np.mean(reached), abs=0.02)


def test_intervals_hold_the_truth_with_few_votes():
    noise = np.random.default_rng(0)
    scores = noise.normal(3, 1, (2000, 3))
    votes = Votes.of(np.repeat(np.arange(2000).astype(str), 3), [*"xyz"] * 2000, scores.ravel())
    found = mean_opinions(votes)
    assert np.mean(np.abs(found.mos - 3) <= found.margin) == pytest.approx(0.95, abs=0.015)


def test_deviations_and_numbers_of_votes_tell_the_ceiling_as_votes_do():
    both = []
    for seed in range(20):
        _, votes = simulated(seed)
        found = mean_opinions(votes)
        both.append([ceiling(votes)["srcc"], ceiling_of_means(found.mos, found.std, found.count)["srcc"]])
    ours, of_means = np.mean(both, axis=0)
    assert of_means == pytest.approx(ours, abs=0.02)  # raters' biases count as noise
    assert ceiling_of_means(np.arange(9.0), np.zeros(9), np.ones(9)) is None


def test_a_table_to_learn_from_has_the_ceiling_of_its_votes(tmp_path):
    _, votes = simulated(3)
    for name in votes.images:
        (tmp_path / name).touch()
    rows = pd.DataFrame({"image": np.array(votes.images)[votes.image], "rating": votes.score, "rater": votes.rater})
    rows.to_csv(tmp_path / "votes.csv", index=False)
    summary = fewshot_iqa.summarize_votes(tmp_path / "votes.csv", out=tmp_path / "mos.csv")
    with pytest.warns(InputWarning, match="learning from their means"):
        read = read_source(None, labels=tmp_path / "votes.csv")
    assert read.ceiling() == summary.ceiling
    record, row = read.records[0], summary.mos.iloc[0]
    assert (record.rating, record.rating_std, record.votes) == pytest.approx((row["mos"], row["std"], row["count"]))
    summarized = read_source(None, labels=tmp_path / "mos.csv")
    assert [r.votes for r in summarized.records] == [r.votes for r in read.records]
    assert summarized.ceiling()["srcc"] == pytest.approx(summary.ceiling["srcc"], abs=0.05)
    (tmp_path / "mos.csv").write_text(
        "image,mos,std,count\n" + "\n".join(f"{n},{i},1,0" for i, n in enumerate(votes.images))
    )
    with pytest.raises(InputError, match=r"row 2: the number of votes '0' is not a number from 1 on"):
        read_source(None, labels=tmp_path / "mos.csv")


def test_without_a_second_vote_no_ceiling_is_known():
    assert ceiling(Votes.of([*"abcdef"], ["x"] * 6, [1, 2, 3, 4, 5, 4])) is None
    noise = np.random.default_rng(0)
    names = [f"{i}" for i in range(40)]
    assert ceiling(Votes.of(names * 2, ["x"] * 80, noise.normal(size=80)))["srcc"] < 0.5


def comparisons(seed, images=12, count=300):
    noise = np.random.default_rng(seed)
    theta = noise.normal(size=images)
    first, second = np.array([noise.choice(images, 2, replace=False) for _ in range(count)]).T
    won = noise.random(count) < 1 / (1 + np.exp(theta[second] - theta[first]))
    return first, second, won.astype(float)


def test_strengths_and_their_covariance_are_those_of_choix():
    first, second, won = comparisons(0)
    names = [f"{i}" for i in range(12)]
    pairs = Pairs.of([*names, *first.astype(str)], [*names[1:], names[0], *second.astype(str)], [0.5] * 12 + [*won])
    theta, covariance = bradley_terry(pairs, alpha=0.2)
    data = [(i, j) if w else (j, i) for i, j, w in zip(first, second, won, strict=True)] * 2
    for i in range(12):  # a draw is half a win for each, so all comparisons count twice
        data += [(i, (i + 1) % 12), ((i + 1) % 12, i)]
    penalty = 0.2  # of the squares themselves, not of their halves
    theirs = choix.opt_pairwise(12, data, alpha=penalty, tol=1e-12)
    np.testing.assert_allclose(theta, theirs, atol=1e-6)
    hessian = choix.opt.PairwiseFcts(data, penalty).hessian(theirs)
    np.testing.assert_allclose(covariance, 2 * np.linalg.inv(hessian), atol=1e-6)


def test_an_image_that_never_lost_is_not_infinitely_good():
    theta, covariance = bradley_terry(Pairs.of(["a", "a"], ["b", "c"], [1, 1]))
    assert theta[0] > theta[1] == pytest.approx(theta[2])
    assert covariance[0, 0] > 1


def written(votes, path):
    images, raters = [votes.images[j] for j in votes.image], [votes.raters[i] for i in votes.rater]
    pd.DataFrame({"image": images, "rating": votes.score, "rater": raters}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("model", ["mean", "bt500", "p913"])
def test_a_table_of_votes_is_summarized(fsiqa, tmp_path, model):
    votes = simulated(3, careless=3, repeats=6)[1]
    table = written(votes, tmp_path / "ratings.csv")
    result = fsiqa("ratings", "summarize", table, "-o", tmp_path / "mos.csv", "--model", model)
    assert result.code == 0, result.error
    rejected = outlying_raters(votes)
    assert "552 votes of 40 images by 12 raters" in result.output
    assert result.output.count(" yes") == rejected.sum()
    mos = pd.read_csv(tmp_path / "mos.csv")
    assert list(mos) == ["image", "mos", "std", "count", "low", "high"]
    kept = votes.of_raters(~rejected) if model == "bt500" else votes
    opinions = subject_model(votes).opinions if model == "p913" else mean_opinions(kept)
    np.testing.assert_allclose(mos["mos"], opinions.mos, rtol=1e-4)
    np.testing.assert_allclose(mos["high"], opinions.mos + opinions.margin, rtol=1e-4)
    assert f"SRCC {ceiling(kept, has_bias=model != 'p913')['srcc']:.3f}" in result.output


def test_comparisons_are_summarized(fsiqa, tmp_path):
    (tmp_path / "pairs.csv").write_text("image_a,image_b,preferred\nx.png,y.png,a\ny.png,z.png,equal\nz.png,x.png,b\n")
    result = fsiqa("ratings", "summarize", tmp_path / "pairs.csv", "-o", tmp_path / "mos.csv")
    assert "3 comparisons of 3 images" in result.output
    mos = pd.read_csv(tmp_path / "mos.csv").set_index("image")
    assert mos.mos.idxmax() == "x.png"
    assert mos["count"].tolist() == [2, 2, 2]
    assert (mos.high - mos.low).min() > 0


def test_one_rater_who_repeats_nothing(fsiqa, tmp_path):
    (tmp_path / "mine.csv").write_text("file,stars\na.png,1\nb.png,4\n")
    result = fsiqa("ratings", "summarize", tmp_path / "mine.csv")
    assert "2 votes of 2 images by 1 rater" in result.output
    assert "not known: too few images have two votes" in result.output


def test_the_model_of_p913_says_where_it_follows_one_rater(tmp_path):
    noise = np.random.default_rng(0)
    few = Votes.of([*"abc"] * 3, [*"xxxyyyzzz"], noise.integers(1, 6, 9))
    with pytest.warns(InputWarning, match="too few votes, its means follow . alone"):
        summarize_votes(written(few, tmp_path / "few.csv"), model="p913")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,rating,rater\na.png,3,\n", "row 2: 'rater' is empty"),
        ("image,rating\na.png,good\n", "row 2: the score is 'good', not a number"),
        ("image,rating,rater,subject\na.png,3,x,y\n", "'rater', 'subject' could each hold the raters"),
        ("image_a,image_b,preferred\na.png,b.png,left\n", "row 2: preferred is 'left', not a, b or equal"),
        ("image_a,image_b,preferred\na.png,a.png,a\n", "row 2: a.png is compared with itself"),
    ],
)
def test_what_is_wrong_with_votes_is_said(tmp_path, text, message):
    (tmp_path / "votes.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_votes(tmp_path / "votes.csv")


def test_a_column_of_raters_is_named(fsiqa, tmp_path):
    (tmp_path / "votes.csv").write_text("image,rating,who\na.png,3,x\na.png,4,y\n")
    assert "by 1 rater" in fsiqa("ratings", "summarize", tmp_path / "votes.csv").output
    assert "by 2 raters" in fsiqa("ratings", "summarize", tmp_path / "votes.csv", "--rater-column", "who").output
    assert "no column 'whom'" in fsiqa("ratings", "summarize", tmp_path / "votes.csv", "--rater-column", "whom").error
    own = fsiqa("ratings", "summarize", tmp_path / "votes.csv", "-o", tmp_path / "votes.csv")
    assert "is read by this run; name another file" in own.error
    assert "--model median" in fsiqa("ratings", "summarize", tmp_path / "votes.csv", "--model", "median").error


def test_winners_and_losers_are_comparisons(fsiqa, tmp_path):
    noise = np.random.default_rng(0)
    rows, strength = [], dict(zip("abcdef", range(6), strict=True))
    for _ in range(200):
        one, other = noise.choice(list(strength), 2, replace=False)
        ahead = noise.random() < 1 / (1 + np.exp(strength[other] - strength[one]))
        rows.append({"Winner": f"{one if ahead else other}.png", "loser": f"{other if ahead else one}.png"})
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    result = fsiqa("ratings", "summarize", tmp_path / "pairs.csv", "-o", tmp_path / "mos.csv")
    assert result.code == 0, result.error
    mos = pd.read_csv(tmp_path / "mos.csv").set_index("image").mos
    assert list(mos.sort_values().index) == [f"{name}.png" for name in "abcdef"]
    refused = fsiqa("adapt", "--labels", tmp_path / "pairs.csv")
    assert "holds comparisons; `fsiqa ratings summarize` makes scores of them" in refused.error


def test_the_variance_of_means_of_votes():
    """Of many simulated votes: nearer to the truth than each deviation alone."""
    noise = np.random.default_rng(0)
    truth, count = noise.uniform(0.5, 1.5, 400), noise.integers(2, 12, 400)
    std = np.array([noise.normal(0, one, n).std(ddof=1) for one, n in zip(truth, count, strict=True)])
    found = variance_of_means(std, count)
    alone, true = std**2 / count, truth**2 / count
    assert np.mean((found - true) ** 2) < np.mean((alone - true) ** 2)
    assert found.mean() == pytest.approx(true.mean(), rel=0.1)
    assert np.isnan(variance_of_means([np.nan, np.nan], [1, 1])).all()
    np.testing.assert_allclose(variance_of_means([0.2, 0.4], [1, 1]), [0.04, 0.16])  # deviations of means


def test_the_variance_of_ratings_reaches_the_process(photographs):
    labels = pd.DataFrame({"image": [f"photo{i}.png" for i in range(6)], "score": range(1, 7)})
    scale = Scale(1, 6)
    known = read_source(None, labels=labels.assign(std=1.0, count=[1, 2, 4, 5, 10, 20]), root=photographs).records
    np.testing.assert_allclose(ratings_variance(known, scale)[1:], 1 / np.array([2, 4, 5, 10, 20]) / 25)
    unknown = read_source(None, labels=labels, root=photographs).records
    assert ratings_variance(unknown, scale) is None
    loader, spec = Loader(ViewSpec(crop=32, random=2), scale), AdaptSpec(trainable=["*"], steps=1, lr=1, batch=3)
    for records in (known, unknown):
        (batch,) = shot_batches(Crops(loader, None, lambda drawn: drawn), records, spec, seed=0)
        weights = batch.targets.get("weight")
        if records is unknown:
            assert weights is None
            continue
        by_quality = dict(zip(batch.targets["quality"].tolist(), weights.tolist(), strict=True))
        assert len(weights) == 6
        assert len(by_quality) == 3
        ordered = [by_quality[quality] for quality in sorted(by_quality)]
        assert ordered == sorted(ordered)  # more votes, more weight
