"""The seven stages at a size of a second, and what each must leave."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import directory_bytes

NETWORK = {"kernel_length": 5, "width": 0.0625, "initialisation": "linear", "normalise": True}
PATCHES = {"patch_size": 48, "tries": 4, "max_taken": 2, "motion_scale": 1.0, "shard_samples": 4}
TRAINING = {"network": NETWORK, "batch_size": 2, "crop": 32, "epochs": 2}


@dataclass(frozen=True)
class Stage:
    """A command and its inputs.

    Parameters
    ----------
    arguments : of ``midframe``, without the output.
    victim : a file that it reads, for faults of inputs.
    workers : whether it spreads its work over Dask workers.
    varies : names in what it writes that hold times, and so differ from run to run.
    """

    name: str
    arguments: list[str]
    victim: Path
    workers: bool = False
    output: str = "out"
    varies: tuple[str, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)

    def command(self, folder: Path, workers: int = 0) -> list[str]:
        """The command line that writes into ``folder``."""
        target = folder / self.output
        words = [*self.arguments]
        if self.name == "interpolate":
            words.insert(2, str(target))
        else:
            words += ["--out", str(target)]
        if self.workers:
            words += ["--workers", str(workers)]
        if self.settings:
            words += ["--settings", json.dumps(self.settings)]
        return words

    def result(self, folder: Path) -> dict[str, bytes] | None:
        """What the command has left under its name; ``None`` if nothing is there."""
        target = folder / self.output
        if target.is_file():
            return {target.name: target.read_bytes()}
        if not target.exists():
            return None
        return {
            name: content
            for name, content in directory_bytes(target).items()
            if not name.startswith(self.varies or "\0")
        }


def stages(
    frames: Path,
    dataset: Path,
    motion: Path,
    cuts: Path,
    patches: Path,
    validation: Path,
    video: Path,
) -> list[Stage]:
    """All stages, from what their predecessors have left."""
    image = sorted((frames / "ride").iterdir())[-1]
    data, given = [str(dataset)], ["--motion", str(motion), "--cuts", str(cuts)]
    shard = max(filter(Path.is_file, patches.rglob("*")), key=lambda file: file.stat().st_size)
    train = ["train", str(patches), "--validation", str(validation), "--state-minutes", "0"]
    return [
        Stage("fetch", ["fetch", "folder", "--path", str(frames)], image, workers=True),
        Stage("score", ["score", *data], image, True, settings={"method": "dis", "stride": 1}),
        Stage("cuts", ["cuts", *data], image, workers=True),
        Stage("sample", ["sample", *data, *given], image, True, settings=PATCHES),
        Stage("train", train, shard, varies=("tensorboard",), settings=TRAINING),
        Stage("evaluate", ["evaluate", *data, "--model", "linear"], image),
        Stage(
            "interpolate", ["interpolate", str(video), "--model", "linear"], video, False, "o.mp4"
        ),
    ]


NAMES = ("fetch", "score", "cuts", "sample", "train", "evaluate", "interpolate")
