"""What is measured while frames are checked gives the cuts that decoding them again gives."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import MidframeError
from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.selection import cuts
from pipeline.selection.cuts import CutDistances, measure
from pipeline.selection.measures import VERSION, FrameMeter
from pipeline.settings import CutSettings, DatasetSettings
from pipeline.sources.datasets import fetch
from tests.conftest import directory_bytes, write_images


@pytest.fixture(scope="module")
def mine(clips: Path, bikes_clip: FrameSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video, a folder of images, and one with a bad image."""
    folder = tmp_path_factory.mktemp("mine")
    shutil.copy(clips / "carphone_pristine.mp4", folder / "video.mp4")
    frames = [frame[60:180, 200:360] for frame in bikes_clip.read(25, 37)]
    write_images(folder / "images", frames)
    write_images(folder / "bad", frames)
    (folder / "bad" / "00006.png").write_text("no image")
    (folder / "parts.csv").write_text("path,start,end\nvideo.mp4,1,2\nvideo.mp4,1.5,\nimages,,\n")
    return folder


def make(mine: Path, out: Path, what: str, **settings: object) -> Path:
    given = {"source": "folder", "path": str(mine), "on_bad_frame": "skip", "measure": what}
    fetch(DatasetSettings.model_validate(given | settings), out, workers=0)
    return out


def distances(frames: Path, out: Path, settings: CutSettings) -> bytes:
    measure(frames, out, settings, workers=0)
    return directory_bytes(out)["distances.parquet"]


@pytest.mark.parametrize("method", ["histogram", "flow"])
@pytest.mark.parametrize("source", ["folder", "list"])
def test_cuts_are_the_same_to_the_byte_whether_frames_are_decoded_again_or_not(
    mine: Path, tmp_path: Path, method: str, source: str
) -> None:
    path = mine / "parts.csv" if source == "list" else mine
    settings = CutSettings.model_validate({"method": method})
    found = {
        what: distances(
            make(mine, tmp_path / what, what, source=source, path=str(path)),
            tmp_path / f"cuts-{what}",
            settings,
        )
        for what in ("nothing", "histogram", "flow")
    }
    assert found["nothing"] == found["histogram"] == found["flow"]


def decoded(
    frames: Path, out: Path, settings: CutSettings, patched: pytest.MonkeyPatch
) -> set[str]:
    """Sequences that `cuts` decodes."""
    names = set()
    read = cuts.read_remaining

    def noted(sequence: FrameSequence, *arguments: object) -> object:
        names.add(sequence.name)
        return read(sequence, *arguments)  # type: ignore[arg-type]

    patched.setattr(cuts, "read_remaining", noted)
    measure(frames, out, settings, workers=0)
    return names


@pytest.mark.parametrize(
    ("measured", "settings", "names"),
    [
        ("histogram", CutSettings(), {"bad"}),
        ("flow", CutSettings(), {"bad"}),
        ("flow", CutSettings(method="flow"), {"bad"}),
        ("histogram", CutSettings(method="flow"), {"bad", "images", "video"}),
        ("histogram", CutSettings(bins=5), {"bad", "images", "video"}),
        ("histogram", CutSettings(bins=16), {"bad"}),
        ("nothing", CutSettings(), {"bad", "images", "video"}),
    ],
)
def test_only_sequences_whose_measures_are_not_kept_are_decoded_again(
    mine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: str,
    settings: CutSettings,
    names: set[str],
) -> None:
    frames = make(mine, tmp_path / "frames", measured)
    assert decoded(frames, tmp_path / "cuts", settings, monkeypatch) == names


def test_measures_of_an_earlier_version_are_not_used(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = make(mine, tmp_path / "frames", "histogram")
    monkeypatch.setattr("pipeline.selection.measures.VERSION", VERSION + 1)
    assert "video" in decoded(frames, tmp_path / "cuts", CutSettings(), monkeypatch)


@pytest.mark.parametrize("group", [1, 3, 7])
def test_distances_are_read_alike_however_the_table_is_cut_into_groups(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    frames = make(mine, tmp_path / "frames", "histogram")
    measure(frames, tmp_path / "one", CutSettings(), workers=0)
    monkeypatch.setattr(cuts, "ROW_GROUP", group)
    measure(frames, tmp_path / "many", CutSettings(), workers=0)
    one, many = CutDistances(tmp_path / "one"), CutDistances(tmp_path / "many")
    assert one.sequences() == many.sequences() == [each.name for each in open_frames(frames)]
    for name in one.sequences():
        np.testing.assert_array_equal(one.of(name), many.of(name))
    with pytest.raises(MidframeError, match="holds no distances of sequence 'boat'"):
        many.of("boat")


def test_the_measures_have_the_same_bytes_for_any_number_of_workers(
    mine: Path, tmp_path: Path
) -> None:
    settings = DatasetSettings(source="folder", path=str(mine), on_bad_frame="skip", measure="flow")
    fetch(settings, tmp_path / "two", workers=2)
    here = make(mine, tmp_path / "none", "flow")
    assert directory_bytes(tmp_path / "two") == directory_bytes(here)
    assert {path.stem for path in (here / "changes").iterdir()} == {"images", "video"}


def test_frames_of_another_size_make_the_measures_unusable() -> None:
    meter = FrameMeter(32, fits=False)
    for height in (40, 40, 48, 40):
        meter.add(np.zeros((height, 40, 3), np.uint8))
    assert not meter.usable
    assert len(meter.measures().counts) == 2
