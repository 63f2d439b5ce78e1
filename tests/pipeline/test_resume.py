"""What an interrupted run has done is kept for the next one of the same kind, and no other."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import MidframeError
from pipeline.provenance import write_manifest
from pipeline.resume import publish_resumable


def fail(out: Path, identity: object, name: str, error: BaseException) -> None:
    with publish_resumable(out, identity) as folder:
        (folder / name).touch()
        raise error


def interrupted(out: Path, identity: object, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail(out, identity, name, KeyboardInterrupt())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_work_is_taken_up_by_the_same_identity_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out, {"stride": 3}, "three")
    interrupted(out, {"stride": 1}, "one")
    with publish_resumable(out, {"stride": 3}) as folder:
        assert names(folder) == {"three"}
        write_manifest(folder, "thing", 1, {})
    assert names(tmp_path) == {"out"}
    assert names(out) == {"three", "manifest.json"}


def test_half_written_files_are_not_taken_up(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", 1, "data.partial")
    with publish_resumable(tmp_path / "out", 1) as folder:
        assert names(folder) == set()
        (folder / "late.partial").touch()
    assert names(tmp_path / "out") == set()


def test_two_at_once_are_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with publish_resumable(tmp_path / "out", 1) as folder:
        with (
            pytest.raises(MidframeError, match="out: another process is writing it"),
            publish_resumable(tmp_path / "out", 2),
        ):
            pass
        write_manifest(folder, "thing", 1, {})
    assert names(tmp_path) == {"out"}


def test_a_full_disk_is_told_and_what_is_done_is_kept(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(MidframeError, match="not enough space"):
        fail(tmp_path / "out", 1, "done", full)
    with publish_resumable(tmp_path / "out", 1) as folder:
        assert names(folder) == {"done"}


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with (
        pytest.raises(MidframeError, match="files that this program did not write"),
        publish_resumable(tmp_path / "out", 1),
    ):
        pass


def test_a_place_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(MidframeError, match="cannot write here"),
        publish_resumable(tmp_path / "file" / "out", 1),
    ):
        pass


def test_what_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), publish_resumable(tmp_path / "out", 1):
        raise RuntimeError
    assert names(tmp_path) == set()


def test_a_killed_run_is_taken_up_where_it_was(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from pipeline.resume import publish_resumable\n"
        "with publish_resumable(pathlib.Path(sys.argv[1]), 1) as folder:\n"
        "    (folder / 'a').write_text('whole')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    subprocess.run(command, check=False, cwd=Path(__file__).parents[2])
    with publish_resumable(tmp_path / "out", 1) as folder:
        assert names(folder) == {"a"}
    assert names(tmp_path) == {"out"}
