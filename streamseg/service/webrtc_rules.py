"""What a WebRTC session may be started and negotiated with, and how its results are cut for the data channel. No I/O.

The session description is text of a stranger: it is checked here before any socket is opened for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from streamseg.errors import BadMessageError, TooLargeError
from streamseg.service.protocol.client_messages import MaskForm, Start

CHANNEL_LABEL = "streamseg.results.v1"
# What every browser takes in one message of a data channel.
MAX_PART_BYTES = 16 * 2**10
# Of an unreliable channel a result of more parts would rarely come whole.
MAX_PARTS = 64
MAX_CANDIDATES = 64

# Number of the result, this part's place from 0, parts of the result.
_PART_HEADER = struct.Struct(">IHH")
_ROOM_BYTES = MAX_PART_BYTES - _PART_HEADER.size


def check_start(start: Start, max_image_pixels: int) -> None:
    """Raise what is wrong with the fields of ``start`` that say something about WebRTC, or contradict it."""
    if start.source != "webrtc":
        if start.size_px is not None:
            raise BadMessageError('size_px is for the source "webrtc"')
        return
    if start.masks == "png":
        raise BadMessageError('masks "png" are for pictures; "webrtc" takes "polygons", "rle" or "none"')
    if start.window is not None:
        raise BadMessageError("window is for pictures of more than 8 bits, which no camera sends")
    if start.size_px is not None and start.size_px[0] * start.size_px[1] > max_image_pixels:
        raise TooLargeError(f"size_px has more than {max_image_pixels} pixels, the most for a frame")


def mask_form(start: Start) -> MaskForm:
    """The form of the masks; polygons where the client did not say, because they are the smallest."""
    return start.masks if "masks" in start.model_fields_set else "polygons"


def check_offer(sdp: str) -> str:
    """The ICE user name of an offer with one video and one data section at most.

    Raises BadMessageError for anything else.
    """
    from aiortc.sdp import SessionDescription

    try:
        offer = SessionDescription.parse(sdp)
    except Exception:
        raise BadMessageError("the sdp of the offer cannot be read") from None
    kinds = [media.kind for media in offer.media]
    for kind in kinds:
        if kind not in ("video", "application"):
            raise BadMessageError("an offer holds one video and one data channel; anything else is refused")
    if not kinds or any(kinds.count(kind) > 1 for kind in kinds):
        raise BadMessageError("an offer holds one video section and one of data channels, neither of them twice")
    if sum(len(media.ice_candidates) for media in offer.media) > MAX_CANDIDATES * len(kinds):
        raise BadMessageError(f"an offer of more than {MAX_CANDIDATES} candidates")
    mids = {media.rtp.muxId for media in offer.media}
    bundled = {mid for group in offer.group if group.semantic == "BUNDLE" for mid in group.items}
    if len(kinds) > 1 and (len(mids) < len(kinds) or not mids <= bundled):
        raise BadMessageError("the sections of an offer must be bundled (bundlePolicy max-bundle or balanced)")
    name = ""
    for media in offer.media:
        if media.ice is None or not media.ice.usernameFragment or not media.ice.password:
            raise BadMessageError("the offer lacks its ICE user name or password")
        name = name or media.ice.usernameFragment
        if media.dtls is None or not media.dtls.fingerprints:
            raise BadMessageError("the offer lacks the fingerprint of its certificate")
        if media.kind == "video" and not media.rtcp_mux:
            raise BadMessageError("the offer must multiplex RTCP (a=rtcp-mux)")
        if media.kind == "application" and media.sctp_port is None and media.profile != "DTLS/SCTP":
            raise BadMessageError("the data section of the offer lacks its SCTP port")
    return name


def without_hidden_candidates(sdp: str) -> str:
    """The offer without ``.local`` candidates and without its end of candidates.

    Names of multicast DNS are rarely known to a server, and asking for them takes seconds; a client that hides its
    address behind one is learned from its own checks, which come whether or not it has named the address.
    """
    kept = [line for line in _lines(sdp) if not _is_hidden(line) and line != "a=end-of-candidates"]
    return "\r\n".join(kept) + "\r\n"


def announced(sdp: str, addresses: Iterable[str]) -> str:
    """The answer with each host candidate repeated for each address under which this machine is reached.

    These come first: FFmpeg's publisher tries the first candidate alone.
    """
    out: list[str] = []
    seen: set[tuple[str, str]] = set()
    for line in _lines(sdp):
        fields = line.split()
        if not line.startswith("a=candidate:") or len(fields) < 8 or fields[7] != "host":
            if line.startswith("m="):
                seen.clear()
            out.append(line)
            continue
        for address in addresses:
            # One socket per interface, so several ports may stand for one address; each is named once.
            if address == fields[4] or (":" in address) != (":" in fields[4]) or (address, fields[5]) in seen:
                continue
            seen.add((address, fields[5]))
            out.append(" ".join([fields[0] + "a", *fields[1:4], address, *fields[5:]]))
        out.append(line)
    return "\r\n".join(out) + "\r\n"


def split(number: int, data: bytes) -> list[bytes] | None:
    """The messages that carry a result; None if it takes too many of them."""
    parts = max(1, -(-len(data) // _ROOM_BYTES))
    if parts > MAX_PARTS:
        return None
    return [
        _PART_HEADER.pack(number % 2**32, place, parts) + data[place * _ROOM_BYTES : (place + 1) * _ROOM_BYTES]
        for place in range(parts)
    ]


def _lines(sdp: str) -> list[str]:
    return [line for line in sdp.splitlines() if line]


def _is_hidden(line: str) -> bool:
    fields = line.split()
    return line.startswith("a=candidate:") and len(fields) > 4 and fields[4].lower().endswith(".local")
