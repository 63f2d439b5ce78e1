"""A model card beside a weights file, in the form that the Hugging Face hub reads.

The card is Markdown with a YAML header: licence, tags, and a ``model-index`` with the numbers of
evaluations, each under the name of its protocol.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from model.evaluation.bootstrap import mean_interval
from model.evaluation.evaluate import Evaluation, open_evaluation
from model.evaluation.measures import MEASURES
from model.evaluation.scoring import measures_of
from model.network.checkpoints import Description, read_description, write_atomically
from pipeline.errors import MidframeError
from pipeline.provenance import file_digest

CARD = "README.md"
TASK = "image-to-image"  # the hub's nearest: it has no name for frame interpolation
PAPERS = ("1708.01692", "1809.07759")


def write_card(
    weights: Path,
    evaluations: Sequence[Path] = (),
    licence: str = "mit",
    data: str | None = None,
    out: Path | None = None,
) -> Path:
    """Write the card of a weights file; return its path.

    Parameters
    ----------
    weights : a weights file.
    evaluations : of these very weights; their means are the card's numbers.
    licence : of the weights, as the hub abbreviates it.
    data : a sentence on the training data and its licence, which no file knows.
    out : the card; default: ``README.md`` beside the weights.

    Raises
    ------
    MidframeError
        if the weights cannot be read, or an evaluation is of other weights.
    """
    description = read_description(weights)
    sha256 = file_digest(weights)
    opened = [_of_these(path, sha256) for path in evaluations]
    header = _header(weights, licence, opened)
    text = _text(weights, sha256, description, opened, licence, data)
    path = out or weights.with_name(CARD)
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    write_atomically(path, f"---\n{front}---\n\n{text}".encode())
    return path


def _of_these(path: Path, sha256: str) -> Evaluation:
    evaluation = open_evaluation(path)
    if evaluation.inputs.get("weights") != sha256:
        raise MidframeError(f"{path}: an evaluation of other weights, or of none")
    return evaluation


def _header(weights: Path, licence: str, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    results = [
        {
            "task": {"type": TASK, "name": "Video frame interpolation"},
            "dataset": {"type": dataset_name(one), "name": dataset_name(one)},
            "metrics": [
                {
                    "type": measure,
                    "name": f"{MEASURES[measure].title}, protocol {protocol}",
                    "value": round(value, MEASURES[measure].digits),
                }
                for protocol, measure, value in _means(one)
            ],
        }
        for one in evaluations
    ]
    header: dict[str, Any] = {
        "license": licence,
        "library_name": "midframe",
        "pipeline_tag": TASK,
        "tags": ["video-frame-interpolation", "sepconv", *(f"arxiv:{p}" for p in PAPERS)],
    }
    if results:
        header["model-index"] = [{"name": weights.stem, "results": results}]
    return header


def dataset_name(evaluation: Evaluation) -> str:
    """What was measured, by the benchmark's name or those of its sequences."""
    if evaluation.settings.layout not in ("sequences", "triplets"):
        subset = evaluation.settings.subset
        return evaluation.settings.layout + (f"-{subset}" if subset else "")
    names = list(evaluation.sequences)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _means(evaluation: Evaluation) -> list[tuple[str, str, float]]:
    """Protocol, measure and mean over all triplets; without those that have no finite mean."""
    scores = evaluation.scores
    found = []
    for protocol in evaluation.protocols:
        for measure in measures_of(protocol):
            column = scores[f"{protocol}_{measure}"].to_numpy()
            estimate = mean_interval(column, scores["sequence"])
            if estimate.count:
                found.append((protocol, measure, estimate.mean))
    return found


def _text(
    weights: Path,
    sha256: str,
    description: Description,
    evaluations: Sequence[Evaluation],
    licence: str,
    data: str | None,
) -> str:
    settings, origin = description.network, description.provenance
    lines = [
        f"# {weights.stem}",
        "",
        "A SepConv network: it predicts the frame between two frames of a video by a separable "
        "kernel for every pixel ([Niklaus et al. 2017](https://arxiv.org/abs/1708.01692)).",
        "",
        f"- File: `{weights.name}`, SHA-256 `{sha256}`",
        f"- Kernels: {settings.kernel_length} taps; channels: {settings.width:g} of the paper's; "
        f"order of modules: {settings.module_order}; "
        f"output {'divided by' if settings.normalise else 'not divided by'} the sum of kernels",
        "- Input and output: RGB in 0..1, any height and width",
        f"- Licence of the weights: {licence}",
        "",
        "## Use",
        "",
        "```sh",
        f"midframe interpolate clip.mp4 smooth.mp4 --model {weights.name}",
        "```",
        "",
        "## Training",
        "",
        data or "The licence of the training data is not stated here; ask who trained it.",
        "",
        *_origin(origin),
        "",
        "## Measured",
        "",
    ]
    if not evaluations:
        lines += ["Not measured.", ""]
    for one in evaluations:
        count = len(one.scores)
        lines += [f"### {dataset_name(one)}: {count} triplets", ""]
        lines += ["| Protocol | Measure | Mean |", "|---|---|---|"]
        lines += [
            f"| `{protocol}` | {MEASURES[measure].heading} | {value:.{MEASURES[measure].digits}f} |"
            for protocol, measure, value in _means(one)
        ]
        lines += ["", *(f"- {text}" for text in one.protocols.values()), ""]
    return "\n".join(lines)


def _origin(origin: dict[str, Any]) -> list[str]:
    """Where the weights come from, oldest stage last, as their file says."""
    if "imported" in origin:
        return [f"Imported from `{origin['file']}`: {origin['imported']}."]
    if not origin:
        return ["The file does not say how it was trained."]
    dumped = yaml.safe_dump(origin, sort_keys=True, allow_unicode=True).rstrip()
    return [
        "As the file records it, with the stages it started from:",
        "",
        "```yaml",
        dumped,
        "```",
    ]
