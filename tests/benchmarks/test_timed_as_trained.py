"""The comparison of timed steps with training measures both, and says when a training is too short for it."""

import pytest
import torch

from benchmarks.timed_as_trained import time_steps, time_training
from tests.models.test_training import open_session


def test_both_ways_are_timed_over_the_same_number_of_samples():
    session = open_session(batch=4, accumulate=3, epochs=2)
    assert time_steps(session, torch.device("cpu"), 2) > 0
    assert time_training(session, 4, 3, 2) > 0


@pytest.mark.parametrize("updates", [5, 50])
def test_a_training_with_too_few_updates_is_named(updates):
    with pytest.raises(ValueError, match=f"64 training rows are fewer than {updates + 1} updates of 3 x 4: give fewer --updates"):
        time_training(open_session(batch=4, accumulate=3, epochs=2), 4, 3, updates)
