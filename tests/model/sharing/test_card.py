"""Model cards: read by the hub's own library."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from model.evaluation.evaluate import evaluate, open_evaluation
from model.network.architecture import SepConv
from model.network.checkpoints import save_network
from model.settings import EvaluationSettings, NetworkSettings
from model.sharing.card import write_card
from pipeline.errors import MidframeError

SETTINGS = EvaluationSettings(sequences=["ride"])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    network = SepConv(
        NetworkSettings(kernel_length=5, width=0.0625, initialisation="linear", normalise=True)
    )
    path = tmp_path / "small.safetensors"
    save_network(network, path, {"epoch": 3, "settings": {"loss": "l1"}})
    return path


def test_the_hub_reads_the_numbers_of_a_card(
    weights: Path, small_frames: Path, tmp_path: Path
) -> None:
    evaluate(small_frames, str(weights), SETTINGS, tmp_path / "out")
    path = write_card(weights, [tmp_path / "out"], "cc-by-nc-4.0", "Made of two clips.")
    assert path == tmp_path / "README.md"
    card = ModelCard.load(path)
    assert card.data.license == "cc-by-nc-4.0"
    results = {one.metric_name: one.metric_value for one in card.data.eval_results}
    mean = open_evaluation(tmp_path / "out").scores["standard_psnr"].mean()
    assert results["PSNR, protocol standard"] == pytest.approx(mean, abs=0.01)
    assert "IE, protocol middlebury" in results
    assert {one.dataset_name for one in card.data.eval_results} == {"ride"}
    assert "Made of two clips." in card.text
    assert "loss: l1" in card.text


def test_a_card_without_an_evaluation_claims_nothing(weights: Path) -> None:
    card = ModelCard.load(write_card(weights))
    assert card.data.eval_results is None
    assert "Not measured." in card.text


def test_an_evaluation_of_another_model_is_refused(
    weights: Path, small_frames: Path, tmp_path: Path
) -> None:
    evaluate(small_frames, "linear", SETTINGS, tmp_path / "out")
    with pytest.raises(MidframeError, match="an evaluation of other weights"):
        write_card(weights, [tmp_path / "out"])
