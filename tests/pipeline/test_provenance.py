"""What carries the right name is complete; a manifest tells what it is and what it came from."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import MidframeError
from pipeline.provenance import (
    digest,
    input_digest,
    publish,
    read_manifest,
    write_manifest,
)


def fill(out: Path, value: int = 1) -> None:
    with publish(out) as folder:
        (folder / "data").write_text(str(value))
        write_manifest(folder, "thing", 1, {"value": value})


def test_a_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    with publish(tmp_path / "out") as folder:
        write_manifest(folder, "thing", 1, {})
        assert not (tmp_path / "out").exists()
    assert read_manifest(tmp_path / "out", "thing", 1)["kind"] == "thing"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    fill(tmp_path / "out", 1)

    def fail() -> None:
        with publish(tmp_path / "out") as folder:
            (folder / "data").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "out" / "data").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_publishing_again_replaces_the_directory(tmp_path: Path) -> None:
    fill(tmp_path / "out", 1)
    fill(tmp_path / "out", 2)
    assert (tmp_path / "out" / "data").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from pipeline.provenance import publish\n"
        "with publish(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'data').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], check=False)
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == [".out.partial"]
    fill(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_running_process_writes_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".out.partial-{socket.gethostname()}-{os.getppid()}"
    other.mkdir()
    fill(tmp_path / "out")
    assert other.is_dir()


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(MidframeError, match="files that this program did not write"):
        fill(tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(MidframeError, match="is a file; an output folder is needed"):
        fill(tmp_path / "out")
    with pytest.raises(MidframeError, match="cannot write here"):
        fill(tmp_path / "out" / "below")


@given(
    st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text() | st.none())
)
def test_a_digest_depends_on_content_not_on_order(content: dict[str, object]) -> None:
    shuffled = dict(reversed(content.items()))
    assert digest(content) == digest(shuffled)
    assert digest(content) != digest({**content, "one more": 1})


def test_an_input_is_identified_by_its_manifest_its_bytes_or_its_files(tmp_path: Path) -> None:
    fill(tmp_path / "out", 1)
    before = input_digest(tmp_path / "out")
    fill(tmp_path / "out", 1)
    assert input_digest(tmp_path / "out") == before
    fill(tmp_path / "out", 2)
    assert input_digest(tmp_path / "out") != before
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("1")
    folder = input_digest(tmp_path / "folder")
    (tmp_path / "folder" / "a").rename(tmp_path / "folder" / "b")
    assert input_digest(tmp_path / "folder") != folder


def test_a_manifest_is_the_same_wherever_and_whenever_it_is_written(tmp_path: Path) -> None:
    fill(tmp_path / "one" / "out")
    fill(tmp_path / "two" / "out")
    texts = {(tmp_path / n / "out" / "manifest.json").read_text() for n in ("one", "two")}
    assert len(texts) == 1
    assert str(tmp_path) not in texts.pop()


def test_readers_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    with pytest.raises(MidframeError, match="no such directory"):
        read_manifest(tmp_path / "none", "thing", 1)
    with pytest.raises(MidframeError, match="is a thing directory, not a motion directory"):
        read_manifest(tmp_path / "out", "motion", 1)
    with pytest.raises(MidframeError, match="thing format version 1, but .* reads version 2"):
        read_manifest(tmp_path / "out", "thing", 2)
    for text in ("{", json.dumps([1]), json.dumps({"kind": "thing"})):
        (tmp_path / "out" / "manifest.json").write_text(text)
        with pytest.raises(MidframeError, match="not a manifest of this program"):
            read_manifest(tmp_path / "out", "thing", 1)
