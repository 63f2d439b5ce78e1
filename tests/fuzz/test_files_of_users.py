"""Whatever a stranger's file holds: a value or one clear error, in bounded time and memory."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from model.evaluation.benchmarks import LAYOUTS
from model.evaluation.predictions import read_prediction
from model.network.architecture import SepConv
from model.network.checkpoints import import_weights, load_network, read_description, save_network
from model.settings import NetworkSettings
from pipeline.browse.query import parse_changes
from pipeline.errors import MidframeError
from pipeline.frames.damage import ends_too_early
from pipeline.frames.sequences import check_sequence
from pipeline.settings import DatasetSettings, MotionSettings, PatchSettings, load, validate
from pipeline.sources.archives import unpack
from pipeline.sources.lists import read_list
from pipeline.store.flags import read_flags
from tests.fuzz.damaging import damaged, examples, json_like, saved, survives, truncations
from workflow.experiment import Experiment

ROOT = Path(__file__).parents[2]
SETTINGS = [
    (ROOT / "config.demo.yaml").read_bytes(),
    b"stride: 3\nmethod: dis\nlayers: &a 3\nmax_flow: *a\n",
    b"part: [0.1, 0.9]\nsequences: ['*', \"b\\u00e4r\"]\n? [complex]\n: !!int '0x10'\n",
]
# What YAML's reader and its constructors have been known to stumble over.
WEIRD_SETTINGS = [
    b"stride: !!timestamp x",
    b"stride: !!int ''",
    b"stride: !!bool x",
    b"stride: !!float x",
    b"stride: 2026-99-99",
    b"stride: " + b"9" * 5000,
    b"stride: !!binary x",
    b"&a [*a]: 1",
    b"stride: &a [*a, *a]",
    b"<<: 1",
    b"? {a: 1}\n: 2",
    b"stride: " + b"[" * 5000,
    b"stride: " + b"{a: " * 2000,
    b"stride: \x00",
    b"\xff\xfe",
    b"a: &a ["
    + b"x," * 9
    + b"x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 10))
        for letter in b"bcdefghi"
    )
    + b"stride: *i\n",
]


@pytest.mark.parametrize("content", WEIRD_SETTINGS, ids=range(len(WEIRD_SETTINGS)))
def test_settings_that_stump_yaml(tmp_path: Path, content: bytes) -> None:
    for cls in (MotionSettings, PatchSettings):
        said = survives(lambda file, cls=cls: load(cls, str(file)), tmp_path / "s.yaml", content)
        assert said is not None


@examples(60)
@given(content=damaged(SETTINGS))
def test_settings_in_a_file(tmp_path: Path, content: bytes) -> None:
    for cls in (MotionSettings, DatasetSettings, PatchSettings):
        survives(lambda file, cls=cls: load(cls, str(file)), tmp_path / "s.yaml", content)
    survives(
        lambda file: load(MotionSettings, "{" + file.read_text("latin-1")), tmp_path / "s", content
    )


# Half of a surrogate pair, which JSON can spell and UTF-8 cannot.
HALF = b'{"datasets": {"a": {"source": "list", "path": "\\ud800"}}}'


@examples(60)
@given(content=json_like(json.dumps(yaml.safe_load(SETTINGS[0])).encode()))
@example(content=HALF)
@example(content=HALF[:-1] + b', "patches": {"p": {"datasets": ["\\ud800"]}}}')
@example(content=HALF[:-3] + b', "\\udcff": 1}}}')
@example(content=b'{"%s": 1, "patches": {"%s": {"x": 1}}}' % (b"a" * 9_000, b"a" * 9_000))
def test_an_experiment_of_any_shape(tmp_path: Path, content: bytes) -> None:
    survives(
        lambda file: load(MotionSettings, "{" + file.read_text("latin-1")[1:]),
        tmp_path / "s",
        content,
    )
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return
    survives(lambda file: validate(Experiment, tree, str(file)), tmp_path / "s", content)


@examples(60)
@given(text=damaged([b"patch_size:64,part:[0.1,0.9]", b"x:!!timestamp y,z:&a [*a]"]))
def test_a_question_in_an_address(tmp_path: Path, text: bytes) -> None:
    survives(lambda file: parse_changes(file.read_text("latin-1")), tmp_path / "query", text)


LISTS = {
    ".txt": [b"a.mkv\t0.5\t2\nfolder\n# note\nb\xff.mkv\n", b"\xef\xbb\xbfa.mkv\n"],
    ".csv": [b'path,start,end\na.mkv,1,2\n"b,\n""c",,\n', b"path\na.mkv\nb.mkv,1,2,3,4\n"],
    ".parquet": [
        saved(lambda file, table=table: pq.write_table(pa.table(table), file))
        for table in (
            {"path": ["a.mkv", "b.mkv"], "start": [0.5, None], "end": [2.0, None]},
            {"path": [1, 2]},
            {"path": [b"\xff", None], "start": [{"a": [1]}, None]},
            {"path": pa.array([2**62], pa.timestamp("us"))},
        )
    ],
}


@pytest.mark.parametrize("suffix", LISTS)
def test_a_list_of_files(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.mkv").touch()

    @examples(80)
    @given(content=damaged([*LISTS[suffix], b"path\n" + b"a" * 300_000, b"path\n\0\n"]))
    def test(content: bytes) -> None:
        survives(read_list, tmp_path / f"list{suffix}", content)

    test()
    for content in LISTS[suffix]:
        survives(read_list, tmp_path / f"list{suffix}", content)


def zipped(method: int) -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("DAVIS/a.jpg", b"pixels" * 50)
            archive.writestr("DAVIS/b/c.jpg", bytes(range(200)))

    return saved(write)


def tarred(form: int) -> bytes:
    def write(file: io.BytesIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            for name in ("DAVIS/a.jpg", "DAVIS/" + "long" * 30, "DAVIS/bär"):
                info = tarfile.TarInfo(name)
                info.size = 200
                archive.addfile(info, io.BytesIO(bytes(range(200))))

    return saved(write)


ARCHIVES = {
    "stored": zipped(zipfile.ZIP_STORED),
    "deflated": zipped(zipfile.ZIP_DEFLATED),
    "bzip2": zipped(zipfile.ZIP_BZIP2),
    "lzma": zipped(zipfile.ZIP_LZMA),
    "pax": tarred(tarfile.PAX_FORMAT),
    "gnu": tarred(tarfile.GNU_FORMAT),
    "tar.gz": gzip.compress(tarred(tarfile.PAX_FORMAT), mtime=0),
}


def unpacked(file: Path) -> None:
    """Unpack beside the archive. If that fails, nothing is there."""
    out = file.with_name("out")
    try:
        unpack(file, out)
    except MidframeError:
        assert [path.name for path in file.parent.iterdir()] == [file.name]
        raise
    shutil.rmtree(out)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive(tmp_path: Path, kind: str) -> None:
    @examples(50)
    @given(content=damaged([ARCHIVES[kind]]))
    def test(content: bytes) -> None:
        survives(unpacked, tmp_path / "archive", content)

    test()
    whole = ARCHIVES[kind]
    if kind in ("pax", "gnu"):
        whole = whole.rstrip(b"\0") + bytes(tarfile.BLOCKSIZE)  # what follows is padding
    for content in truncations(whole, 60):
        assert survives(unpacked, tmp_path / "archive", content) is not None, len(content)


FLAG = {"sequence": "a", "first_frame": 3, "top": 0, "left": 8, "mark": "bad", "note": "ü"}
FLAGS = json.dumps({"kind": "flags", "format_version": 1, "flags": [FLAG, FLAG]}).encode()


@examples(120)
@given(content=json_like(FLAGS))
def test_flags(tmp_path: Path, content: bytes) -> None:
    survives(read_flags, tmp_path / "x.flags.json", content)


EBML = bytes.fromhex("1a45dfa3 84 42868101 18538067 01ffffffffffffff 1549a966 80".replace(" ", ""))
SIZED = bytes.fromhex("1a45dfa3 84 42868101 18538067 85 0000000000".replace(" ", ""))


@examples(150)
@given(content=damaged([EBML, SIZED]))
def test_the_head_of_a_matroska_file(tmp_path: Path, content: bytes) -> None:
    assert survives(ends_too_early, tmp_path / "a.mkv", content) is None


def test_a_matroska_head_cut_after_any_byte(tmp_path: Path) -> None:
    for content in [*truncations(EBML), *truncations(SIZED)]:
        assert survives(ends_too_early, tmp_path / "a.mkv", content) is None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A weights file, and weights as torch saves them."""
    folder = tmp_path_factory.mktemp("weights")
    network = SepConv(NetworkSettings(kernel_length=3, width=0.1))
    save_network(network, folder / "a.safetensors", {"a": 1})
    state = {"moduleConv1.0.weight": torch.zeros(2, 3), "x": torch.ones(1)}
    torch.save(state, folder / "a.pth")
    return (folder / "a.safetensors").read_bytes(), (folder / "a.pth").read_bytes()


def test_a_weights_file(tmp_path: Path, weights: tuple[bytes, bytes]) -> None:
    whole, _ = weights
    length = int.from_bytes(whole[:8], "little")
    header, rest = whole[8 : 8 + length], whole[8 + length :]

    @examples(60)
    @given(content=damaged([whole[: 8 + length]]), keep=st.booleans())
    def damage(content: bytes, keep: bool) -> None:
        survives(load_network, tmp_path / "a", content + rest if keep else content)

    @examples(60)
    @given(changed=json_like(header))
    def other_header(changed: bytes) -> None:
        content = len(changed).to_bytes(8, "little") + changed + rest
        for parse in (load_network, read_description):
            survives(parse, tmp_path / "a", content)

    @examples(60)
    @given(changed=json_like(json.loads(header)["__metadata__"]["midframe"].encode()))
    def other_description(changed: bytes) -> None:
        tree = json.loads(header)
        tree["__metadata__"]["midframe"] = changed.decode("latin-1")
        text = json.dumps(tree).encode()
        content = len(text).to_bytes(8, "little") + text + rest
        survives(load_network, tmp_path / "a", content)

    for test in (damage, other_header, other_description):
        test()


def test_weights_of_another_type_are_refused(tmp_path: Path, weights: tuple[bytes, bytes]) -> None:
    content = weights[0].replace(b'"dtype":"F32"', b'"dtype":"I32"')
    assert "I32" in (survives(load_network, tmp_path / "a", content) or "").replace("int32", "I32")


def test_published_weights(tmp_path: Path, weights: tuple[bytes, bytes]) -> None:
    @examples(80)
    @given(content=damaged([weights[1]]))
    def test(content: bytes) -> None:
        survives(lambda file: import_weights(file, tmp_path / "out"), tmp_path / "a.pth", content)

    test()


def image(kind: str, mode: str = "RGB") -> bytes:
    picture = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    return saved(lambda file: picture.convert(mode).save(file, kind))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_folder_of_images(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(image("PNG"))

    @examples(40)
    @given(content=damaged([image(kind), image("PNG", "P")]))
    def test(content: bytes) -> None:
        survives(lambda file: check_sequence("a", folder), folder / "1.png", content)

    test()


@examples(80)
@given(content=damaged([saved(lambda file: np.save(file, np.zeros((2, 2, 3), np.float32)))]))
def test_a_prediction_as_an_array(tmp_path: Path, content: bytes) -> None:
    survives(read_prediction, tmp_path / "a.npy", content)


@pytest.mark.parametrize("content", [b"", saved(lambda f: np.save(f, np.zeros((0, 2, 3))))])
def test_a_prediction_without_a_pixel_is_refused(tmp_path: Path, content: bytes) -> None:
    assert survives(read_prediction, tmp_path / "a.npy", content) is not None


@examples(80)
@given(content=damaged([image("PNG")]))
def test_a_prediction_as_an_image(tmp_path: Path, content: bytes) -> None:
    survives(read_prediction, tmp_path / "a.png", content)


BENCHMARK_LISTS: dict[str, tuple[str, bytes, str | None]] = {
    "vimeo-90k": ("tri_testlist.txt", b"00001/0001\n00001/0002\n", None),
    "snu-film": (
        "test-easy.txt",
        b"data/SNU-FILM/test/GOPRO_test/A/000001.png test/G/A/000002.png test/G/A/000003.png\n",
        "easy",
    ),
}


@pytest.mark.parametrize("layout", BENCHMARK_LISTS)
def test_the_list_of_a_benchmark(tmp_path: Path, layout: str) -> None:
    name, seed, subset = BENCHMARK_LISTS[layout]
    read: Callable[[Path, str | None], Any] = LAYOUTS[layout][0]

    @examples(60)
    @given(content=damaged([seed]))
    def test(content: bytes) -> None:
        survives(lambda file: read(file.parent, subset), tmp_path / name, content)

    test()
