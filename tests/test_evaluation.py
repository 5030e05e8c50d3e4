"""Metrics of predictions: within subsets, over trials, and after the logistic function."""

import numpy as np
import pytest
import torch

from fewshot_iqa import metrics
from fewshot_iqa.evaluation import compare, evaluate_batches, over_trials
from fewshot_iqa.types import Batch, Prediction


def test_agreement_within_a_subset():
    rated, predicted = [0, 0.25, 0.5, 1, 0.25, 0], [0, 0.25, 0.5, 1, 0, 0.25]
    report = compare(Prediction(torch.tensor(predicted)), rated, [*"aaaa", None, None])
    assert report.within == {"a": metrics.report(rated[:4], rated[:4])}
    assert report.metrics["srcc"] < 1


def test_predictions_are_compared_as_they_are_reported_inside_0_and_1():
    report = compare(Prediction(torch.tensor([-0.5, 0.5, 1.5]).double()), [0.0, 0.5, 1.0])
    assert report.predicted == [0, 0.5, 1]
    assert report.metrics["rmse"] == 0


def test_coverage_is_the_share_within_the_predicted_intervals():
    prediction = Prediction(torch.tensor([0.5, 0.5, 0.5, 0.5]), torch.tensor([0.1, 0.1, 0.1, 0.0]))
    assert compare(prediction, [0.5, 0.66, 0.67, 0.5]).metrics["coverage"] == 0.75


def test_a_phrase_is_right_where_it_is_one_of_the_classes_of_a_labelled_picture():
    class OfBatch:
        def encode_prompts(self):
            return "state"

        def __call__(self, inputs, state, branches, prompts):
            assert (state, branches) == ("state", ["phrases"])
            return Prediction(inputs[:, 0], logits={"phrases": inputs})

    logits = torch.tensor([[0.2, 0.9, 0.1], [0.8, 0.1, 0.3], [0.1, 0.2, 0.7], [0.5, 0.4, 0.3], [0.6, 0.1, 0.2]])
    wanted = torch.tensor([[0.0, 0.5, 0.5], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0.5, 0.5, 0]])  # the fourth has no label
    batches = [
        Batch(logits[rows], {"quality": logits[rows, 0], "scene": wanted[rows]}) for rows in (slice(3), slice(3, 5))
    ]
    found = evaluate_batches(OfBatch(), batches, labels={"scene": "phrases"})
    assert found.metrics["scene_accuracy"] == 3 / 4
    assert found.predicted == found.rated == logits[:, 0].tolist()
    assert found.metrics["rmse"] == 0


def test_medians_over_trials_leave_out_what_some_lack():
    median, iqr = over_trials(
        [{"x": 1.0, "in": {"y": None}}, {"x": 2.0, "in": {"y": 3.0}}, {"x": None, "in": {"y": None}}]
    )
    assert median == {"x": 1.5, "in": {"y": 3.0}}
    assert iqr == {"x": 0.5, "in": {"y": 0.0}}
    assert over_trials([{"x": None}]) == ({"x": None}, {"x": None})
    assert over_trials([{"in": {"a": 1.0}}, {"in": {"a": 3.0, "b": 5.0}}])[0] == {"in": {"a": 2.0, "b": 5.0}}


def test_a_constant_prediction_counts_as_a_correlation_of_0():
    assert over_trials([{"srcc": None}, {"srcc": 0.8}, {"srcc": None}])[0] == {"srcc": 0.0}


def test_the_logistic_function_straightens_a_monotone_relation():
    x = np.random.default_rng(0).random(200)
    bent = 0.1 + 0.8 / (1 + np.exp(-(x - 0.6) / 0.05))
    assert metrics.plcc(x, bent) < 0.95
    assert metrics.plcc_logistic(x, bent) == pytest.approx(1, abs=1e-6)
    assert metrics.plcc_logistic(5 * x + 3, 100 * bent) == pytest.approx(1, abs=1e-6)
    assert np.isnan(metrics.plcc_logistic(np.ones(9), np.arange(9)))
    assert metrics.report([1, 2, 3], [1, 2, 3])["plcc_logistic"] is None
