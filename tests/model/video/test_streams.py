"""What lies beside the pictures: sound, subtitles, chapters, attached files, covers, names."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.video.interpolation import linear
from model.video.smoothing import interpolate_video
from model.video.streams import STYLES
from tests.model.videos import FAST, FASTEST, Frame

MILLISECOND = Fraction(1, 1000)
LINES = {"eng": b"Hello, you", "fra": b"Bonjour <i>toi</i>"}
STYLED = b"0,0,Default,,0,0,0,,{\\i1}Hallo{\\i0}"


def picture(codec: str, bikes: Frame) -> bytes:
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.time_base = 48, 32, Fraction(1, 25)
    context.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p"}[codec]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(bikes[0, :32, :48]), format="rgb24")
    packets = context.encode(frame.reformat(format=context.pix_fmt)) + context.encode(None)
    return bytes(packets[0])


def write_film(path: Path, bikes: Frame, subtitles: str = "subrip", extras: bool = True) -> Path:
    """A film of 8 frames with sound and subtitles in two languages, two chapters and a title; in
    Matroska with an attached file and a cover too."""
    with av.open(path, "w") as container:
        container.metadata.update(title="A film", artist="Somebody")
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.metadata["language"] = "ger"
        sounds, texts = [], []
        for language in LINES:
            sound: Any = container.add_stream("aac", rate=48000, layout="mono")
            sound.metadata.update(language=language, title=f"Sound {language}")
            sounds.append(sound)
            text: Any = container.add_stream(subtitles)
            text.codec_context.subtitle_header = STYLES
            text.codec_context.time_base = text.time_base = MILLISECOND
            text.metadata["language"] = language
            texts.append(text)
        container.set_chapters(
            [
                {"id": n, "start": 160 * n, "end": 160 * n + 160, "time_base": MILLISECOND,
                 "metadata": {"title": f"Chapter {n}"}}
                for n in (0, 1)
            ]
        )  # fmt: skip
        if extras:
            container.add_attachment("font.ttf", "font/ttf", b"not a font")
            container.add_attachment("cover.png", "image/png", picture("png", bikes))
        for rgb in bikes[:8, :48, :64]:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        silence = np.zeros((1, 1024), np.float32)
        for sound in sounds:
            for number in range(15):
                samples = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                samples.rate, samples.pts = 48000, 1024 * number
                container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
        for text, line in zip(texts, LINES.values(), strict=True):
            body = {"mov_text": len(line).to_bytes(2, "big") + line, "ass": STYLED}
            packet: Any = av.Packet(body.get(subtitles, line))
            packet.stream, packet.time_base = text, MILLISECOND
            packet.pts = packet.dts = 80
            packet.duration = 160
            container.mux(packet)
    return path


def streams_of(path: Path, kind: str) -> list[tuple[str, str | None]]:
    with av.open(path) as container:
        return [
            (stream.codec_context.codec.canonical_name, stream.metadata.get("language"))
            for stream in container.streams
            if stream.type == kind
        ]


def texts_of(path: Path) -> list[tuple[int, int, str]]:
    """Of each subtitle its time after the first frame and its length in ms, and its bare text."""
    found = []
    with av.open(path) as container:
        picture = next(container.decode(video=0)).time
        texts = container.streams.subtitles
        container.seek(0)
        for packet in container.demux(texts):
            decoded: Any = packet.stream.codec_context.decode2(packet) if packet.size else None
            for one in decoded or ():
                assert packet.pts is not None
                begin = round(1000 * (float(packet.pts * packet.time_base) - picture))
                length = round(1000 * (packet.duration or 0) * packet.time_base)
                text = re.sub(r"{.*?}|<.*?>", "", one.ass.split(b",", 8)[8].decode())
                found.append((begin, length, text))
    return sorted(found)


@pytest.fixture(scope="module")
def film(bikes: Frame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mkv", bikes)


@pytest.mark.parametrize(
    ("suffix", "form"), [("mkv", "subrip"), ("mp4", "mov_text"), ("mov", "mov_text")]
)
def test_two_languages_of_sound_and_subtitles_chapters_and_names_are_kept(
    suffix: str, form: str, film: Path, tmp_path: Path
) -> None:
    target = tmp_path / f"out.{suffix}"
    interpolate_video(film, target, linear, 2, FAST)
    assert streams_of(target, "audio") == [("aac", "eng"), ("aac", "fra")]
    assert streams_of(target, "subtitle") == [(form, "eng"), (form, "fra")]
    texts = [(80, 160, "Bonjour toi"), (80, 160, "Hello, you")]
    assert texts_of(target) == texts_of(film) == texts
    with av.open(target) as container:
        chapters = container.chapters()
        assert [c["metadata"]["title"] for c in chapters] == ["Chapter 0", "Chapter 1"]
        assert [float(c["start"] * c["time_base"]) for c in chapters] == [0, 0.16]
        assert container.metadata["title"] == "A film"
        assert container.metadata["artist" if suffix != "mkv" else "ARTIST"] == "Somebody"
        assert container.streams.video[0].metadata["language"] == "ger"


def test_subtitles_of_mp4_come_back_into_matroska(bikes: Frame, tmp_path: Path) -> None:
    source = write_film(tmp_path / "in.mp4", bikes, "mov_text", extras=False)
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, FAST)
    assert streams_of(tmp_path / "out.mkv", "subtitle") == [("subrip", "eng"), ("subrip", "fra")]
    assert texts_of(tmp_path / "out.mkv") == texts_of(source)
    assert texts_of(source)[1] == (80, 160, "Hello, you")


def test_styled_subtitles_are_kept_in_matroska_and_simpler_in_mp4(
    bikes: Frame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_film(tmp_path / "in.mkv", bikes, "ass", extras=False)
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, FAST)
    assert streams_of(tmp_path / "out.mkv", "subtitle")[0][0] == "ass"
    assert "style" not in capsys.readouterr().err
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    assert "not kept: subtitles 2 (ass, eng): their style" in capsys.readouterr().err
    assert texts_of(tmp_path / "out.mp4")[0] == (80, 160, "Hallo")


def test_attached_files_and_covers_are_kept_where_the_file_holds_them(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interpolate_video(film, tmp_path / "out.mkv", linear, 2, FAST)
    assert "not kept" not in capsys.readouterr().err
    with av.open(film) as before, av.open(tmp_path / "out.mkv") as after:
        for container in (before, after):
            attached: Any = [one for one in container.streams if one.type == "attachment"]
            assert [(one.metadata["filename"], one.data) for one in attached] == [
                ("font.ttf", b"not a font")
            ]
        covers = [
            next(bytes(p) for p in container.demux(container.streams.video[1]) if p.size)
            for container in (before, after)
        ]
    assert covers[0] == covers[1]

    interpolate_video(film, tmp_path / "out.mp4", linear, 2, FAST)
    assert "out.mp4: not kept: attached file font.ttf" in capsys.readouterr().err
    with av.open(tmp_path / "out.mp4") as container:
        cover = container.streams.video[1]
        assert cover.disposition & av.stream.Disposition.attached_pic
        assert next(bytes(p) for p in container.demux(cover) if p.size) == covers[0]

    interpolate_video(film, tmp_path / "out.mov", linear, 2, FAST)
    assert "out.mov: not kept: cover picture" in capsys.readouterr().err


def test_a_cover_of_mp4_goes_on_as_a_cover(bikes: Frame, tmp_path: Path) -> None:
    write_film(tmp_path / "film.mkv", bikes)
    interpolate_video(tmp_path / "film.mkv", tmp_path / "in.mp4", linear, 2, FAST)
    for name in ("out.mp4", "out.mkv"):
        interpolate_video(tmp_path / "in.mp4", tmp_path / name, linear, 2, FAST)
        with av.open(tmp_path / name) as container:
            assert container.streams.video[1].codec_context.name == "png"
            assert len(list(container.decode(video=0))) == 29


def test_subtitles_become_webvtt_in_a_webm_file(bikes: Frame, tmp_path: Path) -> None:
    with av.open(tmp_path / "in.mkv", "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text: Any = container.add_stream("subrip")
        text.codec_context.subtitle_header = STYLES
        for rgb in bikes[:8, :48, :64]:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        packet: Any = av.Packet(b"Hello")
        packet.stream, packet.time_base, packet.duration = text, MILLISECOND, 100
        packet.pts = packet.dts = 80
        container.mux(packet)
    interpolate_video(tmp_path / "in.mkv", tmp_path / "out.webm", linear, 2, FASTEST["vp9"])
    assert streams_of(tmp_path / "out.webm", "subtitle") == [("webvtt", None)]
    assert texts_of(tmp_path / "out.webm") == [(80, 100, "Hello")]


def test_tags_that_a_file_cannot_hold_are_named(
    bikes: Frame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.mkv"
    with av.open(source, "w") as container:
        container.metadata.update(title="A film", mood="happy")
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for rgb in bikes[:3, :48, :64]:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    assert "out.mp4: not kept: the tags MOOD" in capsys.readouterr().err
