"""Directories of the stages whose manifest, table or record somebody has damaged."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from model.evaluation.evaluate import open_evaluation
from model.video.parts import PacketFile, Part, Parts, read_packets
from model.video.writer import Encoded
from pipeline.browse.collection import Collection
from pipeline.browse.evaluations import EvaluationView
from pipeline.frames import losses
from pipeline.frames.image_index import ImageIndex
from pipeline.frames.sequence_list import SEQUENCES
from pipeline.frames.sequences import open_frames, skipped_frames
from pipeline.frames.video_index import load_index
from pipeline.provenance import write_manifest
from pipeline.selection.cuts import CutDistances
from pipeline.selection.measures import kept_measures
from pipeline.selection.triplets import Source
from pipeline.settings import CutSettings, DatasetSettings
from pipeline.sources.checking import Corpus, Place
from pipeline.sources.resumable_http import _read_version
from pipeline.store.evaluation_files import FORMAT_VERSION, KIND, SCORES
from pipeline.store.motion_store import MotionStore
from pipeline.store.patch_store import PatchStore
from tests.fuzz.damaging import (
    damaged,
    examples,
    json_like,
    saved,
    survives,
    text_of,
    truncations,
)


@contextmanager
def kept(file: Path) -> Iterator[bytes]:
    """A file's bytes, which are in their place again at the end."""
    content = file.read_bytes()
    try:
        yield content
    finally:
        file.write_bytes(content)


def each_value(table: bytes) -> Iterator[bytes]:
    """A Parquet table without each of its columns, with each as text, without rows, with none."""
    whole = pd.read_parquet(io.BytesIO(table))
    changed = [whole.drop(columns=[name]) for name in whole]
    changed += [whole.assign(**{name: whole[name].astype(str) + "x"}) for name in whole]
    changed += [whole.assign(**{name: None}) for name in whole]
    for one in [*changed, whole[:0], pd.DataFrame()]:
        yield saved(lambda file, one=one: one.to_parquet(file))


Opener = Callable[[Path], Any]


def opened(name: str) -> tuple[str, Opener]:
    """The folder of a stage, as the fixture `folders` names it, and what reads its manifest."""
    readers: dict[str, tuple[str, Opener]] = {
        "frames": ("frames", lambda path: (open_frames(path), skipped_frames(path))),
        "motion": ("motion", lambda path: MotionStore(path).first_frames("ride")),
        "cuts": ("cuts", lambda path: CutDistances(path).of("ride")),
        "patches": ("patches", lambda path: PatchStore.open(path).patch_size),
        "browse": ("patches", Collection),
        "evaluation": ("evaluation", open_evaluation),
        "browsed evaluation": ("evaluation", lambda path: EvaluationView(path).metrics),
    }
    return readers[name]


@pytest.fixture(scope="module")
def folders(
    source: Source, patches: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A directory of each stage."""
    evaluation = tmp_path_factory.mktemp("evaluation")
    scores = pd.DataFrame({"sequence": ["a", "b"], "first_frame": [0, 3], "own_psnr": [30.0, 1.0]})
    scores.to_csv(evaluation / SCORES, index=False)
    settings: dict[str, Any] = {"note": "x"}
    names = ("protocols", "sequences", "scored", "images_without_prediction", "not_measured")
    rest: dict[str, Any] = dict.fromkeys(names, [])
    write_manifest(evaluation, KIND, FORMAT_VERSION, settings, {}, model="linear", **rest)
    return {
        "frames": source.frames,
        "motion": source.motion,
        "cuts": source.cuts,
        "patches": patches,
        "evaluation": evaluation,
    }


@pytest.mark.parametrize(
    "stage", ["frames", "motion", "cuts", "patches", "browse", "evaluation", "browsed evaluation"]
)
def test_a_manifest(folders: dict[str, Path], stage: str) -> None:
    name, parse = opened(stage)
    file = folders[name] / "manifest.json"
    with kept(file) as content:

        @examples(40)
        @given(changed=json_like(content))
        def test(changed: bytes) -> None:
            survives(lambda path: parse(path.parent), file, changed)

        test()
        manifest = json.loads(content)
        for key in manifest:
            long_name = text_of(manifest | {key: "a" * 5000})  # too long for a file system
            survives(lambda path: parse(path.parent), file, long_name)


@pytest.mark.parametrize(
    ("stage", "table"),
    [
        ("motion", "triplets.parquet"),
        ("cuts", "distances.parquet"),
        ("browse", "candidates.parquet"),
        ("patches", "candidates.parquet"),
    ],
)
def test_a_table(folders: dict[str, Path], stage: str, table: str) -> None:
    name, parse = opened(stage)
    if stage == "patches":
        parse = lambda path: PatchStore.open(path).candidates()  # noqa: E731
    file = folders[name] / table
    with kept(file) as content:
        damage_bytes(parse, file, content)
        for changed in [*each_value(content), *truncations(content, 20)]:
            survives(lambda path: parse(path.parent), file, changed)


@pytest.mark.parametrize("stage", ["evaluation", "browsed evaluation"])
def test_scores(folders: dict[str, Path], stage: str) -> None:
    name, parse = opened(stage)
    file = folders[name] / SCORES
    with kept(file) as content:
        damage_bytes(parse, file, content)


def test_a_file_of_a_store_of_pixels_or_coordinates(folders: dict[str, Path]) -> None:
    store = folders["patches"]
    for file in sorted((store / "patches.zarr").rglob("zarr.json")):
        with kept(file) as content:
            damage_metadata(store, file, content)


def damage_bytes(parse: Opener, file: Path, content: bytes) -> None:
    @examples(50)
    @given(changed=damaged([content]))
    def test(changed: bytes) -> None:
        survives(lambda path: parse(path.parent), file, changed)

    test()


def damage_metadata(store: Path, file: Path, content: bytes) -> None:
    @examples(12)
    @given(changed=json_like(content))
    def test(changed: bytes) -> None:
        survives(lambda _: PatchStore.open(store).table(), file, changed)

    test()


def measures(sequences: list[Any]) -> Any:
    return [kept_measures(sequence, CutSettings()) for sequence in sequences]


def test_what_was_measured_of_the_frames(folders: dict[str, Path]) -> None:
    sequences = open_frames(folders["frames"])
    (file, *_) = sorted((folders["frames"] / "changes").rglob("*.npz"))
    with kept(file) as content:
        huge = saved(lambda into: np.savez(into, version=1, counts=np.zeros(3), changes=[[1.0]]))
        huge = huge.replace(b"'shape': (3,), }      ", b"'shape': (99999999,)}")

        @examples(60)
        @given(changed=damaged([content, huge]))
        def test(changed: bytes) -> None:
            survives(lambda _: measures(sequences), file, changed)

        test()


def test_the_index_of_a_sequence(folders: dict[str, Path], tmp_path: Path) -> None:
    (file, *_) = sorted((folders["frames"] / "index").rglob("*.npz"))
    ImageIndex(np.array(["a.png"]), np.zeros(1, np.uint32)).save(tmp_path / "small.npz")
    seeds = [file.read_bytes(), (tmp_path / "small.npz").read_bytes()]

    @examples(60)
    @given(changed=damaged(seeds))
    def test(changed: bytes) -> None:
        load_index.cache_clear()
        survives(lambda path: load_index(path, 0), tmp_path / "index.npz", changed)

    test()


def test_the_list_of_sequences(folders: dict[str, Path]) -> None:
    dataset = folders["frames"]
    file, manifest_file = dataset / SEQUENCES, dataset / "manifest.json"
    manifest = json.loads(manifest_file.read_bytes())
    with kept(file) as content, kept(manifest_file):

        @examples(40)
        @given(line=json_like(content.splitlines()[0]))
        def test(line: bytes) -> None:
            changed = line.replace(b"\n", b" ") + b"\n"
            known = manifest | {"sequences_sha256": hashlib.sha256(changed).hexdigest()}
            manifest_file.write_text(json.dumps(known))
            survives(lambda _: list(open_frames(dataset)), file, changed)

        test()
        manifest_file.write_text(json.dumps(manifest))
        for changed in truncations(content, 20):
            said = survives(lambda _: list(open_frames(dataset)), file, changed)
            assert (said is None) == (changed == content)


def test_what_a_check_has_found(folders: dict[str, Path], tmp_path: Path) -> None:
    sequence = open_frames(folders["frames"])[0]
    root, settings_of = sequence.path.parent, cast(DatasetSettings, None)
    places = [Place(sequence.name, sequence.path.name)]
    corpus = Corpus(tmp_path, root, root, settings_of, places)
    check = corpus.check(0, corpus.state(0)[0])
    check.record.parent.mkdir(parents=True)
    seed = json.dumps({"entries": [{"name": "a"}], "left_out": False, "bad": [["a", [1, 2], "x"]]})

    @examples(40)
    @given(content=json_like(seed.encode()))
    def test(content: bytes) -> None:
        survives(lambda _: check.found(), check.record, content)

    test()


LOSS = {"sequence": "a", "path": "/a", "first": 0, "last": 1, "reason": "gone"}


@examples(60)
@given(content=json_like(json.dumps([LOSS, LOSS]).encode()))
def test_frames_that_were_lost(tmp_path: Path, content: bytes) -> None:
    survives(losses.load, tmp_path / "lost.json", content)


@examples(60)
@given(content=json_like(b'{"made": 3, "read": 2, "following": 2, "last": false, "notes": ["a"]}'))
def test_a_part_of_a_video(tmp_path: Path, content: bytes) -> None:
    parts = Parts(tmp_path)
    parts.publish(1, Part(1, 1, 1, True))
    survives(lambda _: parts.whole(), tmp_path / "00000.json", content)


def test_the_packets_of_a_part(tmp_path: Path) -> None:
    file = tmp_path / "packets"
    packets = PacketFile(file)
    packets.write(
        [Encoded(b"data", 1, 1, 1, True, ((3, b"beside"),)), Encoded(b"", 2, 2, 1, False)]
    )
    packets.close()
    content = file.read_bytes()
    ends = {0, len(content), len(content) - 30}

    @examples(150)
    @given(changed=damaged([content]))
    def test(changed: bytes) -> None:
        survives(read_packets, file, changed)

    test()
    for changed in truncations(content):
        said = survives(read_packets, file, changed)
        assert (said is None) == (len(changed) in ends), len(changed)


@examples(80)
@given(content=json_like(b'{"url": "http://x/", "validator": "\\"a\\"", "total": 12}'))
def test_what_was_noted_of_a_download(tmp_path: Path, content: bytes) -> None:
    note = tmp_path / "a.part.json"
    assert (
        survives(lambda _: _read_version(tmp_path / "a.part", "http://x/"), note, content) is None
    )
