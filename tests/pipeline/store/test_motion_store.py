"""The motion store keeps flow to a fraction of a pixel, in few files, and notices damage."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.__main__ import build_parser
from pipeline.command_line import run
from pipeline.errors import MidframeError
from pipeline.flow.optical_flow import compute_flow
from pipeline.frames.sequences import open_frames
from pipeline.selection.patches import Source
from pipeline.selection.window_motion import Statistic, WindowMotion
from pipeline.store.motion_store import STEPS, MotionStore, decode, encode, verify

FLOWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(2)),
    elements=st.floats(-16_000, 16_000, width=32) | st.just(float("nan")),
)


@given(FLOWS)
def test_flow_comes_back_to_half_a_step_and_unknown_flow_stays_unknown(flow: np.ndarray) -> None:
    np.testing.assert_allclose(decode(encode(flow)), flow, rtol=0, atol=0.5 / STEPS)


@given(FLOWS)
def test_flow_that_was_stored_once_comes_back_exactly(flow: np.ndarray) -> None:
    stored = decode(encode(flow))
    np.testing.assert_array_equal(decode(encode(stored)), stored)


@pytest.mark.parametrize("statistic", ["mean_magnitude", "norm_of_mean"])
def test_windows_of_the_stored_flow_score_as_those_of_the_flow(
    statistic: Statistic, source: Source, noise: np.random.Generator
) -> None:
    store = MotionStore(str(source.motion))
    for sequence in open_frames(source.frames):
        first, _, third = sequence.read(0, 3)
        exact = WindowMotion(compute_flow(first, third))
        stored = WindowMotion(store.flow(sequence.name, 0))
        for size in (1, 8, 48, 80):
            for _ in range(20):
                top = int(noise.integers(sequence.height - size + 1))
                left = int(noise.integers(sequence.width - size + 1))
                np.testing.assert_allclose(
                    stored.score(top, left, size, statistic),
                    exact.score(top, left, size, statistic),
                    rtol=0,
                    atol=np.sqrt(0.5) / STEPS + 1e-9,
                )


def test_a_store_is_a_few_files(source: Source) -> None:
    files = {
        file.relative_to(source.motion).as_posix()
        for file in source.motion.rglob("*")
        if file.is_file()
    }
    assert files == {
        "manifest.json",
        "triplets.parquet",
        "motion.zarr/zarr.json",
        *(
            f"motion.zarr/{size}/{name}"
            for size in ("160x120", "120x80")
            for name in ("zarr.json", "c.0.0.0.0")
        ),
    }


def test_a_sound_store_is_verified_on_the_command_line(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(build_parser(), ["verify", str(source.motion)]) == 0
    assert "intact" in capsys.readouterr().out
    assert run(build_parser(), ["verify", str(source.cuts)]) == 1
    assert "is a cuts directory, not a motion or patches" in capsys.readouterr().err


def test_a_flipped_bit_is_found_where_it_is(source: Source, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source.motion, tmp_path / "motion"))
    shard = copy / "motion.zarr" / "160x120" / "c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (damage,) = verify(copy)
    assert "of 'cut' is damaged" in damage


def test_a_missing_shard_is_named(source: Source, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source.motion, tmp_path / "motion"))
    (copy / "motion.zarr" / "120x80" / "c.0.0.0.0").unlink()
    with pytest.raises(MidframeError, match=r"120x80/c\.0\.0\.0\.0: missing"):
        MotionStore(copy)
