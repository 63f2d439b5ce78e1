"""The numbers of docs/paper.md: derived here from what the paper and its datasets state."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from model.network.architecture import SepConv
from model.settings import NetworkSettings, StageSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
BATCH = 16
PATCHES = {"2016": 9952, "2017": 16768}
# Sequences, frames and triplets that begin at every third frame.
DAVIS = {"2016": (50, 3455, 1135), "2017": (90, 6208, 2037), "test-dev": (30, 2086, 686)}


@pytest.fixture(scope="module")
def stages() -> dict[str, StageSettings]:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    return {name: StageSettings.model_validate(one) for name, one in config["stages"].items()}


def said(number: float) -> bool:
    return f"{number:,}" in PAGE


@pytest.mark.parametrize("year", DAVIS)
def test_triplets_of_davis_fit_its_sequences_and_frames(year: str) -> None:
    sequences, frames, triplets = DAVIS[year]
    # A sequence of n frames holds n // 3 triplets, so up to 2 frames of each are left over.
    assert (frames - 2 * sequences) / 3 <= triplets <= frames / 3
    assert all(said(number) for number in (sequences, frames, triplets))


@pytest.mark.parametrize("year", PATCHES)
def test_patches_are_fewer_than_twenty_a_triplet(year: str) -> None:
    each = PATCHES[year] / DAVIS[year][2]
    assert each < 20
    assert f"{each:.1f}" in PAGE
    assert said(PATCHES[year])


def test_epochs_count_on_from_the_parents(stages: dict[str, StageSettings]) -> None:
    start = stages["l1"].start
    assert start is not None
    assert start.epoch + stages["l1"].epochs == 87
    assert 87 + stages["l1-longer"].epochs == 93
    assert "37 + 50 = 87" in PAGE
    assert "87 + 6 = 93" in PAGE


def test_epochs_are_so_many_steps(stages: dict[str, StageSettings]) -> None:
    assert {stage.batch_size for stage in stages.values()} == {BATCH}
    for name, year in (("l1-2016", "2016"), ("l1", "2017"), ("l1-longer", "2017")):
        steps, left = divmod(PATCHES[year], BATCH)
        assert left == 0
        assert said(steps)
        assert said(steps * stages[name].epochs)
    assert stages["l1-2016"].epochs * 12 / 60 == 10
    assert f"{stages['l1'].epochs * 19 / 60:.1f} hours" in PAGE


@pytest.mark.parametrize(("order", "parameters"), [("niklaus", 21675452), ("kartasev", 21602256)])
def test_the_network_has_the_parameters_of_both_codes(order: Any, parameters: int) -> None:
    with torch.device("meta"):
        network = SepConv(NetworkSettings(module_order=order))
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters
    assert said(parameters)


def test_a_sample_costs_so_many_operations() -> None:
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += 2 * layer.weight.numel() * output.shape[2] * output.shape[3]

    with torch.device("meta"):
        network = SepConv()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count)
        network(torch.empty(1, 3, 128, 128), torch.empty(1, 3, 128, 128))
    assert f"{total / 1e9:.2f} GFLOP" in PAGE


def test_what_the_paper_leaves_open_is_what_settings_say(stages: dict[str, StageSettings]) -> None:
    assert {stage.learning_rate for stage in stages.values()} == {0.001}
    assert {stage.crop for stage in stages.values()} == {128}
    assert {stage.optimizer for stage in stages.values()} == {"adamax"}
    weights = {s.perceptual_weight for s in stages.values() if s.loss == "combined"}
    assert weights == {5e-5, 1e-5}
    assert [n for n, s in stages.items() if not s.temporal_swap] == ["l1-2016"]
