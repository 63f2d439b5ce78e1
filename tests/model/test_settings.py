import subprocess
import sys

import pytest

from model.settings import NetworkSettings, StageSettings, TrainingSettings
from pipeline.errors import MidframeError
from pipeline.settings import load


def test_defaults_are_those_of_the_paper() -> None:
    assert NetworkSettings() == NetworkSettings(
        kernel_length=51,
        width=1.0,
        module_order="niklaus",
        initialisation="orthogonal",
        normalise=False,
    )
    stage = TrainingSettings()
    assert (stage.loss, stage.optimizer, stage.learning_rate) == ("l1", "adamax", 1e-3)
    assert (stage.batch_size, stage.crop, stage.epochs) == (16, 128, 50)
    assert (stage.warmup_steps, stage.schedule) == (0, "constant")


def test_even_kernel_is_refused_with_the_reason() -> None:
    with pytest.raises(MidframeError, match="kernel_length: must be odd"):
        load(TrainingSettings, '{"network": {"kernel_length": 50}}')


def test_mistyped_key_names_the_nearest_one() -> None:
    with pytest.raises(MidframeError, match=r"learning_rat: .*did you mean 'learning_rate'"):
        load(TrainingSettings, '{"learning_rat": 0.001}')


def test_unknown_loss_tells_what_is_allowed() -> None:
    with pytest.raises(MidframeError, match="'l1', 'l2', 'ssim', 'vgg' or 'combined'"):
        load(TrainingSettings, '{"loss": "l3"}')


def test_stage_is_what_the_command_takes_and_what_the_graph_needs() -> None:
    values = {"patches": "a", "validation": "b", "start": {"stage": "one", "epoch": 37}}
    stage = StageSettings.model_validate(values | {"epochs": 6, "network": {"width": 0.5}})
    assert stage.training() == TrainingSettings(epochs=6, network=NetworkSettings(width=0.5))


def test_settings_are_read_without_torch() -> None:
    program = "import sys, model.settings, model.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
