"""What kind of video file some bytes are, told from the bytes alone."""

from __future__ import annotations

from typing import BinaryIO

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".webm", ".mkv", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg"}
    | {".vob", ".gif", ".webp"}
)
ACCEPTED = "MP4, MOV, WebM, Matroska, AVI, MPEG transport or program stream, GIF or animated WebP"

HEAD_BYTES = 4096
"""How much of the start of a file ``sniff_container`` wants to see."""

# Boxes that a QuickTime file may begin with; every MP4 begins with ftyp.
_MOV_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
# ISO files that hold still pictures: the demuxer would open them, but they are no videos.
_PICTURE_BRANDS = frozenset({b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"miaf", b"jxl "})
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_TS_SYNC = 0x47
# Plain packets, packets behind a 4-byte arrival time (Blu-ray, AVCHD), packets with error correction behind them.
_TS_LAYOUTS = ((188, 0), (192, 4), (204, 0))
_WEBP_ANIMATION_FLAG = 0x02


def sniff_container(head: bytes) -> str | None:
    """FFmpeg's name of the demuxer for a file that starts with ``head``; None where the file is not accepted.

    One of ``mov`` (MP4, MOV, 3GP), ``matroska`` (and WebM), ``avi``, ``mpegts``, ``mpeg`` (program stream), ``gif``
    and ``webp`` (animated ones only; a still WebP is None). ``head``: the first HEAD_BYTES of the file, or all of a
    shorter one. The file's name plays no part; playlists, which name other files, are never accepted.
    """
    if head[4:8] in _MOV_BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS else "mov"
    if head.startswith(_EBML):
        return "matroska"
    if head[:4] == b"RIFF":
        if head[8:12] == b"AVI ":
            return "avi"
        return "webp" if head[8:12] == b"WEBP" and is_animated_webp(head) else None
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "mpeg"
    return "mpegts" if _is_mpegts(head) else None


def is_animated_webp(head: bytes) -> bool:
    """Whether a WebP file that starts with ``head`` says that it is an animation."""
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & _WEBP_ANIMATION_FLAG)


def describe(head: bytes) -> str:
    """What a refused file looks like, as the tail of a message; empty where nothing is known."""
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"#extm3u", b"ffconcat", b"<mpd")) or b"<mpd" in start or b"urn:mpeg:dash" in start:
        return "; this is a playlist: give the video file itself"
    if head[:3] == b"\xff\xd8\xff" or head[:8] == b"\x89PNG\r\n\x1a\n" or head[8:12] in (*_PICTURE_BRANDS, b"WEBP"):
        return "; this is a still picture: give it as an image"
    if head[:3] == b"ID3" or head[:4] in (b"fLaC", b"OggS") or head[8:12] == b"WAVE":
        return "; this looks like a sound file"
    if head[:4] == b"%PDF":
        return "; this is a PDF"
    if head[:2] == b"PK" or head[:2] == b"\x1f\x8b":
        return "; this is an archive: unpack it first"
    return "; this is a web page" if start.startswith((b"<!doctype html", b"<html")) else ""


def missing_bytes(file: BinaryIO, container: str, size: int) -> int:
    """How many bytes are missing at the end of ``file``, by what its own structure says; 0 where it says nothing.

    ``size``: the length of the file. The position of ``file`` is moved.
    """
    if container == "mov":
        return _missing_in_boxes(file, size)
    if container == "matroska":
        return _missing_in_segment(file, size)
    if container in ("avi", "webp"):
        file.seek(4)
        return max(0, int.from_bytes(file.read(4), "little") + 8 - size)
    return 0


def _is_mpegts(head: bytes) -> bool:
    for length, offset in _TS_LAYOUTS:
        # A recording may start in the middle of a packet; then more of them must be in step.
        for start in range(length):
            syncs = head[start + offset :: length]
            wanted = 2 if start == 0 else 4
            if len(syncs) >= wanted and all(byte == _TS_SYNC for byte in syncs[:16]):
                return True
    return False


def _missing_in_boxes(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if not header[4:8].isalnum():  # no box: something was appended to the file
            return 0
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: up to the end of the file
            return 0
        position += length
    return max(0, position - size)


def _missing_in_segment(file: BinaryIO, size: int) -> int:
    position = 0
    for wanted in (_EBML, _SEGMENT):
        file.seek(position)
        field = file.read(12)
        width = 9 - field[4].bit_length() if len(field) == 12 else 9
        if field[:4] != wanted or width > 8:
            return 0
        value = int.from_bytes(field[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        if value == (1 << 7 * width) - 1:  # written live: the length is not known
            return 0
        position += 4 + width + value
    return max(0, position - size)
