import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from model.evaluation.metrics import PROTOCOLS
from model.network.architecture import SepConv
from model.network.checkpoints import load_network, read_description
from model.settings import NetworkSettings, TrainingSettings
from model.training.train import train
from model.training.validation import to_frames, to_image
from pipeline.errors import MidframeError
from pipeline.provenance import read_manifest
from pipeline.store.patch_store import PatchStore
from tests.model.conftest import publish_patches, read_clip
from tests.model.network.test_vgg import made_up_state

NETWORK = NetworkSettings(width=1 / 16, kernel_length=5, initialisation="linear", normalise=True)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def patches(
    tmp_path_factory: pytest.TempPathFactory, write_patches: Callable[..., Path]
) -> tuple[Path, Path]:
    """9 patches of 40 pixels to train on, 3 to validate on."""
    folder = tmp_path_factory.mktemp("patches")
    return (
        write_patches(folder / "train", range(1, 28, 3)),
        write_patches(folder / "validation", range(31, 40, 3)),
    )


def settings(**changes: object) -> TrainingSettings:
    values = {"network": NETWORK, "epochs": 2, "batch_size": 4, "crop": 32, "learning_rate": 2e-3}
    return TrainingSettings.model_validate(values | changes)


def contents(model: Path) -> dict[str, bytes]:
    """What a stage leaves, without TensorBoard's events, which hold the time."""
    return {
        str(path.relative_to(model)): path.read_bytes()
        for path in sorted(model.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts
    }


def metrics(model: Path) -> list[dict[str, str]]:
    with (model / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_stage_leaves_weights_metrics_pictures_and_a_manifest(
    patches: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "model"
    train(*patches, out, settings(epochs=3, save_every=2))
    assert sorted(path.name for path in (out / "weights").iterdir()) == [
        "epoch-0002.safetensors",
        "epoch-0003.safetensors",
    ]
    assert [row["epoch"] for row in metrics(out)] == ["0", "1", "2", "3"]
    assert len(list((out / "visual" / "held-out").glob("epoch-*.png"))) == 4
    assert list((out / "tensorboard").glob("events.*"))
    manifest = read_manifest(out, "model", 1)
    assert (manifest["training_patches"], manifest["validation_patches"]) == (9, 3)
    assert manifest["steps"] == 9
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_same_seed_gives_the_same_bytes(patches: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(*patches, tmp_path / name, settings())
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_seed_gives_other_weights(patches: tuple[Path, Path], tmp_path: Path) -> None:
    for seed in (0, 1):
        train(*patches, tmp_path / str(seed), settings(epochs=1, seed=seed))
    weights = "weights/epoch-0001.safetensors"
    assert contents(tmp_path / "0")[weights] != contents(tmp_path / "1")[weights]


def test_training_lowers_the_loss_on_what_it_is_trained_on(
    patches: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "model"
    still = {"augment": False, "temporal_swap": False, "crop_position": "centre"}
    train(*patches, out, settings(epochs=15, learning_rate=5e-3, save_every=15, **still))
    losses = [float(row["training_loss"]) for row in metrics(out)[1:]]
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.slow
def test_small_network_learns_eight_triplets_by_heart(
    tmp_path: Path,
) -> None:
    # A pan of about two pixels; the same eight places again and again, so that an epoch is long.
    clip = read_clip("bikes.mp4", 140)
    places = [(first, 100 + first % 7, 50 * (first - 110)) for first in range(111, 119)]
    triplets = np.stack([clip[f : f + 3, y : y + 64, x : x + 64] for f, y, x in places])
    publish_patches(tmp_path / "train", np.tile(triplets, (32, 1, 1, 1, 1)), places * 32)
    publish_patches(tmp_path / "validation", triplets[:1], [(0, 0, 0)])
    store = PatchStore.open(tmp_path / "train")
    stage = settings(
        network=NETWORK.model_copy(update={"width": 0.25, "kernel_length": 9}),
        epochs=5,
        batch_size=8,
        crop=64,
        warmup_steps=20,
        learning_rate=1e-3,
        augment=False,
        temporal_swap=False,
        save_every=5,
    )
    train(tmp_path / "train", tmp_path / "validation", tmp_path / "m", stage)
    network = load_network(tmp_path / "m" / "weights" / "epoch-0005.safetensors")
    first, middle, third = to_frames(store.read(range(8)), torch.device("cpu"))
    with torch.inference_mode():
        found = [mean_psnr(guess, middle) for guess in ((first + third) / 2, network(first, third))]
    assert found[1] >= found[0] + 3


def mean_psnr(prediction: Tensor, target: Tensor) -> float:
    score = PROTOCOLS["standard"].score
    pairs = zip(prediction, target, strict=True)
    return sum(score(to_image(p), to_image(t)).psnr for p, t in pairs) / len(target)


def test_stage_starts_from_its_parents_weights(patches: tuple[Path, Path], tmp_path: Path) -> None:
    train(*patches, tmp_path / "parent", settings())
    parent = tmp_path / "parent" / "weights" / "epoch-0001.safetensors"
    child = settings(network=None, loss="ssim", epochs=1)
    AcceleratorState._reset_state(True)
    train(*patches, tmp_path / "child", child, init=parent)
    before = {k: v for k, v in metrics(tmp_path / "child")[0].items() if "psnr" in k}
    after = {k: v for k, v in metrics(tmp_path / "parent")[1].items() if "psnr" in k}
    assert before == after
    weights = tmp_path / "child" / "weights" / "epoch-0001.safetensors"
    provenance = read_description(weights).provenance
    assert provenance["epoch"] == 1
    assert provenance["parent"] == read_description(parent).provenance
    assert load_network(weights).settings == NETWORK


def test_network_other_than_the_parents_is_refused(
    patches: tuple[Path, Path], tmp_path: Path
) -> None:
    train(*patches, tmp_path / "parent", settings(epochs=1))
    parent = tmp_path / "parent" / "weights" / "epoch-0001.safetensors"
    other = NETWORK.model_copy(update={"kernel_length": 7})
    with pytest.raises(MidframeError, match="omit network"):
        train(*patches, tmp_path / "child", settings(network=other), init=parent)


@pytest.mark.parametrize("form", ["as_published", "usual"])
@pytest.mark.parametrize("loss", ["l2", "vgg", "combined"])
def test_every_other_loss_trains(
    loss: str, form: str, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    vgg = None
    if loss != "l2":
        vgg = tmp_path / "vgg.pth"
        torch.save(made_up_state(), vgg)
    train(*patches, tmp_path / "m", settings(epochs=1, loss=loss, loss_form=form), vgg=vgg)
    assert float(metrics(tmp_path / "m")[1]["training_loss"]) > 0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_other_optimiser_trains(
    optimizer: str, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    train(*patches, tmp_path / "m", settings(epochs=1, optimizer=optimizer))
    assert (tmp_path / "m" / "weights" / "epoch-0001.safetensors").is_file()


def test_bfloat16_follows_float32(patches: tuple[Path, Path], tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        AcceleratorState._reset_state(True)
        train(*patches, tmp_path / precision, settings(epochs=1, precision=precision))
        losses.append(float(metrics(tmp_path / precision)[1]["training_loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.slow
def test_an_error_of_several_processes_is_told_without_a_traceback(
    patches: tuple[Path, Path], tmp_path: Path
) -> None:
    asked = [*command(patches, tmp_path / "m", settings(loss="vgg")), "--processes", "2"]
    done = subprocess.run([sys.executable, *asked], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if "the weights of VGG-19" in line]
    assert len(set(told)) == 1
    others = [line for line in done.stderr.splitlines() if not line.startswith("using ")]
    assert all(line.startswith("midframe: error: ") for line in others)
    assert not list(tmp_path.iterdir())


def test_missing_vgg_weights_stop_before_anything_is_written(
    patches: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match="needs the weights of VGG-19"):
        train(*patches, tmp_path / "m", settings(loss="combined"))
    assert not list(tmp_path.iterdir())


def test_validating_on_training_frames_is_refused(
    patches: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match="share frames: bikes, frame 1,"):
        train(patches[0], patches[0], tmp_path / "m", settings())


def test_folder_that_holds_other_files_is_not_replaced(
    patches: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.tex").write_text("")
    with pytest.raises(MidframeError, match="holds files that this program did not write"):
        train(*patches, tmp_path / "m", settings())
    assert (tmp_path / "m" / "thesis.tex").is_file()


def break_network(monkeypatch: pytest.MonkeyPatch, call: int, result: float | Exception) -> None:
    """Let the network's ``call``-th training step go wrong."""
    forward = SepConv.forward
    calls = 0

    def broken(self: SepConv, first: Tensor, third: Tensor) -> Tensor:
        nonlocal calls
        calls += self.training
        if self.training and calls == call:
            if isinstance(result, Exception):
                raise result
            return forward(self, first, third) * result
        return forward(self, first, third)

    monkeypatch.setattr(SepConv, "forward", broken)


def test_loss_that_is_not_finite_stops_with_the_samples(
    patches: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_network(monkeypatch, 5, float("nan"))
    expected = r"the loss is nan in epoch 2, step 5 \(samples \d+, \d+, \d+, \d+\)"
    with pytest.raises(MidframeError, match=expected):
        train(*patches, tmp_path / "m", settings(), state_minutes=0)
    assert not (tmp_path / "m").exists()
    states = list(tmp_path.glob(".m.progress-*/state-*.pt"))
    assert sorted(path.name for path in states) == ["state-000000003.pt", "state-000000004.pt"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_exhausted_memory_tells_what_to_lower(
    error: Exception,
    patches: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_network(monkeypatch, 2, error)
    with pytest.raises(MidframeError, match=r"lower batch_size \(now 4\) or crop \(now 32\)"):
        train(*patches, tmp_path / "m", settings())


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> list[int]:
    """Ask a run for its end in a step; the list grows by one a call of the network in training."""
    forward, calls = SepConv.forward, list[int]()

    def stopping(self: SepConv, first: Tensor, third: Tensor) -> Tensor:
        if self.training:
            calls.append(len(first))
            if len(calls) == step:
                os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, first, third)

    monkeypatch.setattr(SepConv, "forward", stopping)
    return calls


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_run_that_was_stopped_goes_on_to_the_same_bytes(
    step: int, patches: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(*patches, tmp_path / "whole", settings())
    calls = stop_at(monkeypatch, step)
    with pytest.raises(MidframeError, match=f"after step {step} of 6; the state is saved"):
        train(*patches, tmp_path / "parts", settings())
    assert not (tmp_path / "parts").exists()
    train(*patches, tmp_path / "parts", settings())
    assert len(calls) == 6
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


@pytest.fixture
def threads() -> Iterator[None]:
    """Gives torch its number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_a_run_that_resumes_with_more_threads_says_so_and_the_weights_tell(
    patches: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.set_num_threads(1)
    stop_at(monkeypatch, 2)
    with pytest.raises(MidframeError, match="the state is saved"):
        train(*patches, tmp_path / "model", settings())
    torch.set_num_threads(2)
    capsys.readouterr()
    train(*patches, tmp_path / "model", settings())
    assert "training model: 1 thread until here, 2 from here; the order" in capsys.readouterr().err
    weights = tmp_path / "model" / "weights"
    told = [read_description(weights / f"epoch-000{n}.safetensors").provenance for n in (1, 2)]
    assert [one["threads"] for one in told] == [[1, 2], [1, 2]]
    assert told[0]["stage"]["settings"]["precision"] == "fp32"


def command(patches: tuple[Path, Path], out: Path, stage: TrainingSettings) -> list[str]:
    return [
        *("-m", "model", "train", str(patches[0])),
        *("--validation", str(patches[1]), "--out", str(out)),
        *("--settings", stage.model_dump_json(), "--state-minutes", "0"),
    ]


@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_bytes(patches: tuple[Path, Path], tmp_path: Path) -> None:
    stage = settings(epochs=20)
    arguments = [sys.executable, *command(patches, tmp_path / "killed", stage)]
    train(*patches, tmp_path / "whole", stage)
    kills, resumed = 0, []
    for target in (5, 22, 41):
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            states = sorted(tmp_path.glob(".killed.progress-*/state-*.pt"))
            if states and int(states[-1].stem[6:]) >= target:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                states = sorted(tmp_path.glob(".killed.progress-*/state-*.pt"))
                resumed.append(int(states[-1].stem[6:]))
            time.sleep(0.01)
    assert kills == 3
    assert any(step % 3 for step in resumed), "an epoch has three steps; none was left in one"
    assert not (tmp_path / "killed").exists()
    subprocess.run(arguments, check=True)
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed")


def step_losses(model: Path) -> list[float]:
    """The loss of every step, as TensorBoard shows it."""
    events = EventAccumulator(str(model / "tensorboard")).Reload()
    return [event.value for event in events.Scalars("step/loss")]


@pytest.mark.slow
def test_two_processes_with_half_the_batch_follow_one(
    patches: tuple[Path, Path], tmp_path: Path
) -> None:
    stage = settings(epochs=7)  # 21 steps, with a last batch of one sample in each epoch
    train(*patches, tmp_path / "one", stage)
    two = [sys.executable, *command(patches, tmp_path / "two", stage), "--processes", "2"]
    subprocess.run(two, check=True)
    losses = [step_losses(tmp_path / name) for name in ("one", "two")]
    assert len(losses[0]) == 21
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for one, two in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        for name in ("training_loss", "validation_loss", "validation_psnr"):
            if one[name]:
                assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-4), name
