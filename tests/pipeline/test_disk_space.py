from pathlib import Path

import pytest

from pipeline.disk_space import require_free, require_writable
from pipeline.errors import MidframeError


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_below_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("not a folder")
    with pytest.raises(MidframeError, match="cannot write here .*; choose another folder"):
        require_writable(tmp_path / "a" / "b")


def test_a_folder_without_permission_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so that the system's answer is put in its mouth.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(MidframeError, match=r"cannot write here \(Permission denied\)"):
        require_writable(tmp_path)


def test_a_disk_that_is_too_small_is_told_with_what_is_needed_and_free(small_disk: Path) -> None:
    require_free(small_disk, 1_000_000)
    with pytest.raises(MidframeError, match=r"3.0 MB needed, 1.0 MB free"):
        require_free(small_disk, 3_000_000)
