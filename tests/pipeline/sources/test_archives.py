import gzip
import io
import random
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import MidframeError
from pipeline.sources import archives
from pipeline.sources.archives import unpack

Maker = Callable[[Path, list[tuple[str, bytes]]], Path]


def make_zip(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_tar_gz(path: Path, files: list[tuple[str, bytes]]) -> Path:
    path.write_bytes(gzip.compress(make_tar(path, files).read_bytes(), mtime=0))
    return path


every_kind = pytest.mark.parametrize("make", [make_zip, make_tar, make_tar_gz])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refuse(archive: Path, match: str) -> None:
    """Unpacking fails in one line and leaves nothing, inside the folder or out of it."""
    around = archive.parent
    before = sorted(around.rglob("*"))
    with pytest.raises(MidframeError, match=match) as caught:
        unpack(archive, around / "out" / "frames")
    assert "\n" not in str(caught.value)
    assert [path for path in sorted(around.rglob("*")) if path != around / "out"] == before


def test_an_archive_of_davis_is_unpacked_as_it_was_packed(
    davis_archive: Path, tmp_path: Path
) -> None:
    unpack(davis_archive, tmp_path / "davis")
    with zipfile.ZipFile(davis_archive) as archive:
        assert contents(tmp_path / "davis") == {n: archive.read(n) for n in archive.namelist()}


@every_kind
def test_each_kind_is_told_from_its_content(make: Maker, tmp_path: Path) -> None:
    files = [("./DAVIS/a.txt", b"a" * 5000), ("DAVIS/deep/er/b.txt", b""), ("c", b"c")]
    unpack(make(tmp_path / "archive", files), tmp_path / "out")
    assert contents(tmp_path / "out") == {
        "DAVIS/a.txt": b"a" * 5000,
        "DAVIS/deep/er/b.txt": b"",
        "c": b"c",
    }


def test_archives_that_share_their_top_folder_stay_apart(tmp_path: Path) -> None:
    for year in ("2016", "2017"):
        archive = make_zip(tmp_path / f"{year}.zip", [("DAVIS/year.txt", year.encode())])
        unpack(archive, tmp_path / f"davis-{year}")
    assert (tmp_path / "davis-2016/DAVIS/year.txt").read_text() == "2016"


@every_kind
@pytest.mark.parametrize(
    "name", ["/tmp/midframe-escaped", "../escaped", "DAVIS/../../escaped", "..\\escaped"]
)
def test_a_path_that_leads_out_is_refused(make: Maker, name: str, tmp_path: Path) -> None:
    refuse(make(tmp_path / "archive", [("fine", b""), (name, b"x")]), "leads out of the folder")
    assert not Path("/tmp/midframe-escaped").exists()


@every_kind
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["DAVIS/a", "./DAVIS/a", "DAVIS//a"])
def test_a_name_that_is_there_twice_is_refused(make: Maker, name: str, tmp_path: Path) -> None:
    refuse(make(tmp_path / "archive", [("DAVIS/a", b"1"), (name, b"2")]), "is there twice")


@every_kind
@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
def test_a_name_of_both_a_file_and_a_folder_is_refused(
    make: Maker, names: tuple[str, str], tmp_path: Path
) -> None:
    archive = make(tmp_path / "archive", [(name, b"") for name in names])
    refuse(archive, "'a' is both a file and a folder")


@every_kind
def test_a_file_without_a_name_is_refused(make: Maker, tmp_path: Path) -> None:
    refuse(make(tmp_path / "archive", [(".", b"x")]), "is both a file and a folder")


@every_kind
def test_a_very_long_name_is_refused(make: Maker, tmp_path: Path) -> None:
    refuse(make(tmp_path / "archive", [("a/" * 30_000 + "a", b"")]), "has 60,001 characters")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_link_or_device_in_a_zip_file_is_refused(kind: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr(info, "/etc")
        archive.writestr("link/passwd", "x")
    refuse(tmp_path / "archive.zip", "'link' is a link or a device")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_link_or_device_in_a_tar_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc"
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
        archive.addfile(info)
    refuse(tmp_path / "archive.tar.gz", "'link' is a link or a device")


@pytest.mark.parametrize("make", [make_zip, make_tar_gz])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1 << 20)
    zeros = [(str(number), bytes(2 << 20)) for number in range(3)]
    refuse(make(tmp_path / "archive", zeros), "unpacks to more than 1,048,576 bytes")


def test_the_size_that_is_expected_is_a_limit(davis_archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(davis_archive) as archive:
        size = sum(info.file_size for info in archive.infolist())
    with pytest.raises(MidframeError, match="unpacks to more than"):
        unpack(davis_archive, tmp_path / "davis", expected_bytes=size - 1)
    unpack(davis_archive, tmp_path / "davis", expected_bytes=size)


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_ENTRIES", 10)
    many = [(str(number), b"") for number in range(11)]
    refuse(make_zip(tmp_path / "archive.zip", many), "or 10 entries")


def test_a_zip_file_that_states_too_small_a_size_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "archive.zip", [("a", bytes(50_000))])
    stated = (50_000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(stated, (10).to_bytes(4, "little")))
    refuse(path, "damaged or cut off")


def test_a_tar_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 2 << 20
    path = tmp_path / "archive.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf() + bytes(header.size))
    refuse(path, "a header of 2097152 bytes")


def test_a_negative_size_in_a_tar_header_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a")
    header.size = -1024
    path = tmp_path / "archive.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    refuse(path, "a negative size")


def test_an_encrypted_zip_file_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "archive.zip", [("a", b"x")])
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the entry's own header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the directory of entries
    path.write_bytes(data)
    refuse(path, "entry 'a' is encrypted")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(10_000)])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(content)
    refuse(tmp_path / "archive.zip", "neither a zip nor a tar or tar.gz archive")


def test_an_archive_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.zip", r"cannot be read \(No such file")


@every_kind
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_archive_cut_off_anywhere_is_refused(make: Maker, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make(
            Path(folder) / "archive", [("a", random.Random(0).randbytes(700)), ("b", b"b" * 3000)]
        )
        whole = path.read_bytes()
        # A tar file ends in a record of zeros, most of which may be missing.
        end = len(whole.rstrip(b"\0")) if make is make_tar else len(whole)
        path.write_bytes(whole[: data.draw(st.integers(0, end - 1))])
        refuse(path, "damaged or cut off|neither a zip")


@pytest.mark.parametrize("make", [make_zip, make_tar_gz])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_no_content(make: Maker, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder) / "archive", [("a", b"a" * 700), ("b", b"b" * 3000)])
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        try:
            unpack(path, Path(folder) / "out")
        except MidframeError:
            assert not (Path(folder) / "out").exists()
        else:
            assert set(contents(Path(folder) / "out").values()) <= {b"a" * 700, b"b" * 3000}


def test_an_archive_that_does_not_fit_on_the_disk_is_refused(
    davis_archive: Path, small_disk: Path
) -> None:
    with pytest.raises(MidframeError, match=r"not enough space: .* MB needed, 1.0 MB free"):
        unpack(davis_archive, small_disk / "davis")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_unpacking_is_left_as_it_was(
    davis_archive: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another program takes the space after it has been checked.
    monkeypatch.setattr(archives, "require_free", lambda folder, needed: None)
    with pytest.raises(MidframeError, match="not enough space"):
        unpack(davis_archive, small_disk / "davis")
    assert list(small_disk.iterdir()) == []


def test_an_unpack_that_is_killed_leaves_nothing_under_the_name(
    davis_archive: Path, tmp_path: Path
) -> None:
    program = """
import os, shutil, signal, sys
from pathlib import Path
from pipeline.sources.archives import unpack
copy, copied = shutil.copyfileobj, []
def copy_some(*args):
    copied.append(copy(*args))
    if len(copied) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
shutil.copyfileobj = copy_some
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    target = tmp_path / "davis"
    command = [sys.executable, "-c", program, str(davis_archive), str(target)]
    killed = subprocess.run(command, cwd=Path(archives.__file__).parents[1])
    assert killed.returncode == -9
    assert not target.exists()
    unpack(davis_archive, target)
    assert len(contents(target)) == 24


def test_an_interrupted_unpack_leaves_what_was_there(
    davis_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "davis"
    target.mkdir()
    (target / "manifest.json").write_text("{}")

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(davis_archive, target)
    assert contents(tmp_path) == {"davis/manifest.json": b"{}"}


def test_a_folder_with_files_of_others_is_not_replaced(davis_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "davis").mkdir()
    (tmp_path / "davis" / "thesis.tex").write_text("years of work")
    with pytest.raises(MidframeError, match="holds files that this program did not write"):
        unpack(davis_archive, tmp_path / "davis")
    assert contents(tmp_path / "davis") == {"thesis.tex": b"years of work"}
