"""What is missing in a damaged video, and which of its frames cannot be trusted."""

from pathlib import Path


def missing_frames(path: Path, announced: int, held: int, last: int | None = None) -> int:
    """How many frames a file should hold beyond those that it holds; 1 if it does not say.

    Parameters
    ----------
    announced : frames by the file's head, 0 if that says nothing.
    held : pictures that lie there, those without content too.
    last : place of the last one among those announced, if the file counts places. AVI does, and
        where a picture is repeated leaves one empty.
    """
    if last is not None:
        return max(announced - 1 - last, 0) if ends_too_early(path) else 0
    return max(announced - held, 0) if announced else int(ends_too_early(path))


def ends_too_early(path: Path) -> bool:
    """Whether a Matroska, WebM or AVI file is shorter than it says.

    These either do not count their frames, or count some that are not there.
    """
    with path.open("rb") as file:
        start = file.read(4)
    return _riff_is_short(path) if start == b"RIFF" else _matroska_is_short(path)


def _riff_is_short(path: Path) -> bool:
    """An AVI file of more than a gigabyte consists of several chunks like the first.

    Some programs count the eight bytes of a chunk's head, too.
    """
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            head = file.read(8)
            if head[:4] != b"RIFF":
                return False
            length = int.from_bytes(head[4:], "little")
            position += 8 + length + length % 2
    return position > size + 8


def _matroska_is_short(path: Path) -> bool:
    """RFC 8794: an element is its identifier, the length of its content, and the content.

    The bits of a length begin with a zero for each byte that it is longer than one; all ones stand
    for unknown.
    """
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # EBML header, Segment
            file.seek(position)
            start = file.read(5)
            if start[:4] != identifier or len(start) < 5 or start[4] == 0:
                return False
            more = 8 - start[4].bit_length()
            bits = 7 * (more + 1)
            length = int.from_bytes(start[4:] + file.read(more), "big") & ((1 << bits) - 1)
            if length == (1 << bits) - 1:
                return False
            position = file.tell() + length
            if position > size:
                return True
    return False


def undecodable(packets: list[tuple[int, bool, bool]]) -> dict[int, str]:
    """Why frames are bad, by timestamp: not decoded, or built on frames that are not.

    Until the next key frame a decoder continues with what it has, and its pictures look whole.

    Parameters
    ----------
    packets : timestamp, whether it is a key frame, whether it was decoded: in the file's order.
    """
    reasons: dict[int, str] = {}
    broken = broken_before = False
    key = 0
    for pts, is_key, is_decoded in packets:
        if is_key:
            broken_before, broken, key = broken, False, pts
        if not is_decoded:
            broken = True
            reasons[pts] = "cannot be decoded"
        # Frames shown before the key frame they follow may build on those before it as well.
        elif broken or (broken_before and pts < key):
            reasons[pts] = "may build on a frame that cannot be decoded"
    return reasons
