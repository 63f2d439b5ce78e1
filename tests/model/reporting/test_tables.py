"""Tables over real evaluations."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.evaluation.evaluate import evaluate, open_evaluation
from model.network.architecture import SepConv
from model.network.checkpoints import save_network
from model.reporting.published import TABLES
from model.reporting.tables import make_table
from model.settings import EvaluationSettings, NetworkSettings, TableSettings
from pipeline.errors import MidframeError
from pipeline.frames.sequences import FrameSequence
from tests.conftest import write_images


@pytest.fixture(scope="module")
def evaluations(small_frames: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of linear interpolation and of a network that is worse."""
    folder = tmp_path_factory.mktemp("evaluations")
    torch.manual_seed(0)
    network = SepConv(NetworkSettings(width=1 / 16, kernel_length=5, initialisation="linear"))
    with torch.no_grad():
        network.heads["vertical_first"][-1].bias += 0.1
    save_network(network, folder / "brighter.safetensors", {})
    chosen = EvaluationSettings.model_validate({"stride": 1})
    evaluate(small_frames, "linear", chosen, folder / "linear")
    evaluate(small_frames, str(folder / "brighter.safetensors"), chosen, folder / "brighter")
    return [folder / "linear", folder / "brighter"]


@pytest.fixture(scope="module")
def of_many_videos(
    evaluations: list[Path], bikes_clip: FrameSequence, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """The same models on two triplets each of six sequences."""
    folder = tmp_path_factory.mktemp("many")
    for place in range(6):
        frames = bikes_clip.read(31 + 5 * place, 35 + 5 * place)
        write_images(folder / "frames" / f"{place}", [frame[100:148, 200:264] for frame in frames])
    chosen = EvaluationSettings.model_validate({"stride": 1, "cut_threshold": 1})
    weights = evaluations[1].with_name("brighter.safetensors")
    evaluate(folder / "frames", "linear", chosen, folder / "linear")
    evaluate(folder / "frames", str(weights), chosen, folder / "brighter")
    return [folder / "linear", folder / "brighter"]


def table(evaluations: list[Path], out: Path, **values: Any) -> tuple[str, list[dict[str, str]]]:
    make_table(evaluations, TableSettings.model_validate(values), out)
    with (out / "table.csv").open(encoding="utf-8") as file:
        return (out / "table.md").read_text(encoding="utf-8"), list(csv.DictReader(file))


def test_a_row_gives_the_means_of_its_evaluation_with_and_without_cuts(
    evaluations: list[Path], tmp_path: Path
) -> None:
    _, lines = table(evaluations, tmp_path / "table")
    scores = open_evaluation(evaluations[1]).scores
    assert 0 < scores["cut"].sum() < len(scores)
    for line in lines:
        if line["label"] == "brighter":
            kept = scores if line["cuts"] == "1" else scores[scores["cut"] == 0]
            column = kept[f"{line['protocol']}_{line['metric']}"]
            assert float(line["score"]) == pytest.approx(column.mean())
            assert int(line["images"]) == len(column)


def test_differences_are_paired(evaluations: list[Path], tmp_path: Path) -> None:
    _, lines = table(evaluations, tmp_path / "table", protocols=["standard"])
    linear, brighter = (open_evaluation(path).scores for path in evaluations)
    difference = (brighter["standard_psnr"] - linear["standard_psnr"]).to_numpy()
    (line,) = (
        row
        for row in lines
        if (row["label"], row["metric"], row["cuts"]) == ("brighter", "psnr", "1")
    )
    assert float(line["to_baseline"]) == pytest.approx(difference.mean())
    low, high = float(line["to_baseline_low"]), float(line["to_baseline_high"])
    assert low <= difference.mean() <= high
    assert high - low < 4 * np.std(difference)


def test_the_table_says_which_model_is_worse_and_which_is_best(
    of_many_videos: list[Path], tmp_path: Path
) -> None:
    text, lines = table(of_many_videos, tmp_path / "table", protocols=["standard"])
    (line,) = (line for line in text.splitlines() if line.startswith("| `standard` | brighter"))
    assert line.count(", worse |") == 2
    (line,) = (line for line in text.splitlines() if line.startswith("| `standard` | linear"))
    assert line.count("**") == 4
    assert "‡" not in text.partition("Means with")[0]
    assert {row["sequences"] for row in lines} == {"6"}


def test_a_twin_of_the_best_cannot_be_told_apart_from_it(
    of_many_videos: list[Path], tmp_path: Path
) -> None:
    rows = [{"label": "linear"}, {"label": "twin"}]
    text, _ = table([of_many_videos[0]] * 2, tmp_path / "table", rows=rows, protocols=["niklaus"])
    (line,) = (line for line in text.splitlines() if line.startswith("| `niklaus` | twin"))
    assert line.count(" † |") == 2
    assert line.count("cannot be told apart") == 2


def test_two_videos_give_intervals_over_triplets_and_no_verdict(
    evaluations: list[Path], tmp_path: Path
) -> None:
    text, lines = table(evaluations, tmp_path / "table", protocols=["standard"])
    for line in text.splitlines():
        if line.startswith("| `standard` | brighter"):
            assert line.count("‡)") == line.count(" (") == 4
            assert not {"better", "worse"} & set(line.split())
    assert {row["to_baseline_p"] for row in lines} == {""}


def test_verdicts_are_corrected_for_all_comparisons_of_the_table(
    of_many_videos: list[Path], tmp_path: Path
) -> None:
    def smallest(protocols: list[str], out: str) -> float:
        _, lines = table(of_many_videos, tmp_path / out, protocols=protocols)
        return min(float(row["to_baseline_p"]) for row in lines if row["to_baseline_p"])

    alone = smallest(["standard"], "one")
    assert smallest(["standard", "standard"], "twice") == alone
    assert smallest(["niklaus", "standard"], "two") >= alone


def test_training_runs_of_one_stage_are_one_row_of_mean_and_spread(
    evaluations: list[Path], tmp_path: Path
) -> None:
    values = {"protocols": ["standard"], "seeds": {"both": ["linear", "brighter"]}}
    text, lines = table(evaluations, tmp_path / "table", **values)
    scores = [float(r["score"]) for r in lines if r["metric"] == "psnr" and r["cuts"] == "1"]
    row = f"| `standard` | both | 2 | {np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f} |"
    assert row in text


def test_every_number_stands_under_the_name_of_its_protocol(
    evaluations: list[Path], tmp_path: Path
) -> None:
    text, _ = table(evaluations, tmp_path / "table")
    names = ("as_published", "niklaus", "standard")
    table_lines = [line for line in text.splitlines() if re.match(r"\| .*\d", line)]
    assert len(table_lines) == 2 * 3 * 2
    for line in table_lines:
        assert any(line.startswith(f"| `{name}` |") for name in names)
    assert "- niklaus: prediction truncated to 8 bits" in text


def test_published_numbers_stand_beside_ours_with_the_difference(
    evaluations: list[Path], tmp_path: Path
) -> None:
    rows = [
        {"label": "linear", "published": "linear"},
        {"label": "L1, epoch 50", "published": "L1"},
    ]
    text, lines = table(evaluations, tmp_path / "table", published="table-1", rows=rows)
    assert TABLES["table-1"].source in text
    (line,) = (
        row
        for row in lines
        if row["published"] and row["metric"] == "psnr" and row["label"] == "linear"
        if row["cuts"] == "1"
    )
    assert (line["protocol"], float(line["published"])) == ("as_published", 26.7)
    assert float(line["score_minus_published"]) == pytest.approx(float(line["score"]) - 26.7)
    assert (
        f"| linear | {float(line['score']):.2f} | 26.7 | {float(line['score']) - 26.7:+.2f} |"
        in text
    )


def test_the_published_tables_hold_the_papers_numbers() -> None:
    assert TABLES["table-1"].rows["L1"] == (29.1, 0.820)
    assert TABLES["table-1"].rows["SSIM"] == (26.8, 0.845)
    assert TABLES["table-2"].rows["L1 Niklaus"] == (41.31, 0.968)
    assert TABLES["middlebury"].rows["L1 Niklaus"] == (35.73, 0.959)


def test_evaluations_of_other_triplets_are_no_table(
    evaluations: list[Path], small_frames: Path, tmp_path: Path
) -> None:
    evaluate(small_frames, "linear", EvaluationSettings(), tmp_path / "other", label="other")
    with pytest.raises(MidframeError, match="measured other triplets"):
        table([evaluations[0], tmp_path / "other"], tmp_path / "table")


def test_evaluations_with_other_settings_are_no_table(
    evaluations: list[Path], small_frames: Path, tmp_path: Path
) -> None:
    chosen = EvaluationSettings.model_validate({"stride": 1, "cut_threshold": 0.0081})
    evaluate(small_frames, "linear", chosen, tmp_path / "other", label="other")
    with pytest.raises(MidframeError, match="evaluated with another 'cut_threshold'"):
        table([evaluations[0], tmp_path / "other"], tmp_path / "table")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": {"all": ["linear", "L7"]}}, "seeds: all: no row 'L7'; there are: linear, bri"),
        ({"baseline": "mean"}, "no row 'mean'; there are: linear, brighter"),
        ({"rows": [{"label": "linear"}]}, "1 rows for 2 evaluations"),
        ({"rows": [{"label": "linear"}] * 2}, "two evaluations have one label"),
        (
            {
                "rows": [{"label": "linear", "published": "L3"}, {"label": "b"}],
                "published": "table-1",
            },
            "table-1 has no row 'L3'; there are: L1, ",
        ),
        (
            {"rows": [{"label": "linear", "published": "L1"}, {"label": "b"}]},
            "names a published row, but no table is set",
        ),
    ],
)
def test_labels_that_do_not_fit_are_one_clear_line(
    values: dict[str, Any], message: str, evaluations: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match=message):
        table(evaluations, tmp_path / "table", **values)
    assert not list(tmp_path.iterdir())
