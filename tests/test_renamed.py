"""Keys of earlier versions."""

import pytest

from fewshot_iqa.config.renamed import OLD_KEYS, renamed


@pytest.mark.parametrize(
    ("key", "present"),
    [
        ("episodes.count", "episodes.tasks_per_step"),
        ("task.episodes.count", "task.episodes.tasks_per_step"),
        ("model.prior", "head.prompt_mean_weight"),
        ("ridge", "head"),
        ("ridge.penalties", "head.penalties"),
        ("views.count", None),
        ("count", None),
        ("model.headroom", None),
    ],
)
def test_the_present_name_of_a_key(key, present):
    assert renamed(key) == present


def test_no_present_name_is_an_old_one():
    assert all(renamed(new) is None for new in OLD_KEYS.values())
