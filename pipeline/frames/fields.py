"""Interlaced pictures: one whole picture of the two fields of each, by FFmpeg's filter bwdif."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph

# One picture out for each one in, whatever its flags say.
FILTER = ("bwdif", "mode=send_frame:parity=auto:deint=all")


def deinterlaced(pictures: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield a whole picture for each interlaced one.

    Each is made of a picture and its two neighbours; the first and the last have one.
    """
    graph: Graph | None = None
    for number, picture in enumerate(pictures):
        if graph is None:
            graph = _graph(picture)
        picture.pts, picture.time_base = number, Fraction(1, 25)
        graph.vpush(picture)
        yield from _ready(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph)


def _graph(picture: av.VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=picture.width,
        height=picture.height,
        format=picture.format,
        time_base=Fraction(1, 25),
    )
    graph.link_nodes(source, graph.add(*FILTER), graph.add("buffersink")).configure()
    return graph


def _ready(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield frame
