import pytest

from model.settings import TrainingSettings
from model.training.stage import learning_rate


def test_warm_up_grows_to_the_learning_rate_and_the_cosine_ends_near_zero() -> None:
    stage = TrainingSettings(learning_rate=0.5, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(stage, done, 104) for done in range(104)]
    assert rates[:5] == [0.125, 0.25, 0.375, 0.5, 0.5]
    assert rates[54] == pytest.approx(0.25)
    assert rates[-1] == pytest.approx(0, abs=1e-3)
    assert learning_rate(TrainingSettings(), 10**6, 10**7) == 1e-3
