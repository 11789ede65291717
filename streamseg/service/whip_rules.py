"""What publishers (WHIP) and players (WHEP) may offer, and how they are answered. No I/O.

Both offer sound too. Here it is cut from the offer before anything is made for it, and put back into the answer as
``inactive``: the connection comes about, and not one packet of sound is decoded or kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamseg.errors import BadMessageError, OfferRefusedError, PatchRefusedError
from streamseg.service.webrtc_rules import check_offer, without_hidden_candidates
from streamseg.settings import IceServer

Role: TypeAlias = Literal["whip", "whep"]

MAX_SECTIONS = 8
SDP_TYPE = "application/sdp"
FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"

_ALL_DIRECTIONS = ("sendonly", "recvonly", "sendrecv", "inactive")
_DIRECTIONS: dict[Role, tuple[str, ...]] = {"whip": ("sendonly", "sendrecv"), "whep": ("recvonly", "sendrecv")}
# Of the transport, which bundled sections share; a publisher may name it in the first of them alone.
_SHARED = ("ice-ufrag", "ice-pwd", "ice-options", "fingerprint", "setup")
_TRANSPORT = (*_SHARED, "candidate", "end-of-candidates")
# The profile that is negotiated in place of any other: FFmpeg decodes them all.
_BASELINE = "42e01f"
_PROFILE = re.compile(r"(profile-level-id=)([0-9A-Fa-f]{6})")


@dataclass(frozen=True, slots=True)
class Taken:
    """What is taken of an offer. ``sdp``: its video section alone. ``remote_name``: the ICE user name of the peer."""

    sdp: str
    remote_name: str
    _sections: tuple[tuple[str, ...], ...]
    _profiles: tuple[tuple[str, str], ...]

    def answer(self, sdp: str) -> str:
        """The answer to the whole offer; ``sdp``: the one to its video section."""
        session, (video,) = _split(sdp)
        profiles = dict(self._profiles)
        video = [_with_profile(line, profiles) for line in video]
        transport = [line for line in video if _name(line) in _TRANSPORT]
        mids, sections = [], []
        for section in self._sections:
            mids.append(_value(section, "mid") or "")
            sections.append(video if _kind(section) == "video" else _unused(section, transport))
        if len(self._sections) > 1:
            session = [_bundle(mids) if line.startswith("a=group:BUNDLE") else line for line in session]
        return _join([session, *sections])


def take(sdp: str, role: Role) -> Taken:
    """The video of an offer. Raises BadMessageError for what is none, OfferRefusedError for what is not taken."""
    session, sections = _split(sdp)
    kinds = [_kind(section) for section in sections]
    if not sections or len(sections) > MAX_SECTIONS:
        raise BadMessageError(f"an offer has from 1 to {MAX_SECTIONS} sections of media")
    if kinds.count("video") != 1 or set(kinds) - {"video", "audio"}:
        raise OfferRefusedError("an offer holds one section of video; sound beside it is passed over, nothing else is")
    video = sections[kinds.index("video")]
    mids = {_value(section, "mid") for section in sections}
    bundled = {mid for line in session if line.startswith("a=group:BUNDLE") for mid in line.split()[1:]}
    if len(sections) > 1 and (len(mids) < len(sections) or not mids <= bundled):
        raise OfferRefusedError("the sections of an offer must be bundled (bundlePolicy max-bundle)")
    directions = _DIRECTIONS[role]
    if _direction([*video, *session]) not in directions:
        raise OfferRefusedError(f"the video of this offer must be {' or '.join(directions)}")
    profiles: tuple[tuple[str, str], ...] = ()
    if role == "whip":
        video, profiles = _common_profile(video)
    else:
        # Some players offer to send as well; there is no use for what would come.
        video = [*(line for line in video if _name(line) not in _ALL_DIRECTIONS), "a=recvonly"]
    _check_codecs(video)
    for shared in _SHARED:
        if _value([*session, *video], shared) is None:
            video += [line for line in sections[0] if _name(line) == shared]
    video += [line for line in sections[0] if _name(line) == "candidate" and line not in video]
    mid = _value(video, "mid")
    session = [_bundle([mid] if mid else []) if line.startswith("a=group:BUNDLE") else line for line in session]
    kept = without_hidden_candidates(_join([session, video]))
    return Taken(kept, check_offer(kept), tuple(map(tuple, sections)), profiles)


def candidates_of(fragment: str, remote_name: str) -> list[str]:
    """The candidates in a trickled fragment. Raises PatchRefusedError where it asks for another ICE session."""
    lines = [line for line in fragment.splitlines() if line]
    if any(not re.match(r"[a-z]=", line) for line in lines):
        raise BadMessageError("this is no fragment of a session description")
    names = {line.partition(":")[2] for line in lines if _name(line) == "ice-ufrag"}
    if names - {remote_name}:
        raise PatchRefusedError("ICE is not restarted here: end this connection and make a new one")
    # The end of candidates is found by the time it takes; more may be on their way.
    return [line.removeprefix("a=") for line in lines if _name(line) == "candidate"]


def ice_links(servers: Iterable[IceServer]) -> list[str]:
    """The values of Link headers that tell a client which ICE servers to use."""
    links = []
    for server in servers:
        for url in server.urls:
            link = f'<{url}>; rel="ice-server"'
            if url.startswith("turn") and server.username is not None and server.credential is not None:
                secret = server.credential.get_secret_value()
                link += f'; username="{_quoted(server.username)}"; credential="{_quoted(secret)}"'
                link += '; credential-type="password"'
            links.append(link)
    return links


def _common_profile(video: list[str]) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """H.264 of any profile as the one that is negotiated; what each payload type had before."""
    profiles = []
    common = []
    for line in video:
        match = _PROFILE.search(line) if _name(line) == "fmtp" else None
        if match is not None:
            profiles.append((_payload_type(line), match[2]))
            line = line[: match.start(2)] + _BASELINE + line[match.end(2) :]
        common.append(line)
    return common, tuple(profiles)


def _with_profile(line: str, profiles: dict[str, str]) -> str:
    own = profiles.get(_payload_type(line)) if _name(line) == "fmtp" else None
    return line if own is None else _PROFILE.sub(rf"\g<1>{own}", line)


def _check_codecs(video: list[str]) -> None:
    whole = {_payload_type(line) for line in video if _name(line) == "fmtp" and "packetization-mode=1" in line}
    for line in video:
        if _name(line) == "rtpmap":
            codec = line.split()[-1].upper()
            if codec == "VP8/90000" or (codec == "H264/90000" and _payload_type(line) in whole):
                return
    raise OfferRefusedError("the video of this offer is neither VP8 nor H.264 (packetization-mode=1)")


def _unused(section: tuple[str, ...], transport: list[str]) -> list[str]:
    """The answer to a section of sound. GStreamer and libdatachannel want the transport in every section."""
    kind, _, profile, *formats = section[0].split()
    if not formats:
        raise BadMessageError("a section of the offer has no formats")
    about = [line for line in section if _name(line) in ("rtpmap", "fmtp") and _payload_type(line) == formats[0]]
    mid = [line for line in section if _name(line) == "mid"]
    first = f"{kind} 9 {profile} {formats[0]}"
    return [first, "c=IN IP4 0.0.0.0", *mid, "a=inactive", "a=rtcp-mux", *about, *transport]


def _split(sdp: str) -> tuple[list[str], list[list[str]]]:
    session: list[str] = []
    sections: list[list[str]] = []
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append([])
        if line:
            (sections[-1] if sections else session).append(line)
    return session, sections


def _join(parts: Iterable[Iterable[str]]) -> str:
    return "".join(f"{line}\r\n" for part in parts for line in part)


def _kind(section: Iterable[str]) -> str:
    return next(iter(section))[2:].partition(" ")[0]


def _name(line: str) -> str:
    """Name of an attribute; empty where the line is none."""
    return line[2:].partition(":")[0] if line.startswith("a=") else ""


def _value(lines: Iterable[str], name: str) -> str | None:
    return next((line.partition(":")[2] for line in lines if _name(line) == name), None)


def _direction(lines: Iterable[str]) -> str:
    return next((_name(line) for line in lines if _name(line) in _ALL_DIRECTIONS), "sendrecv")


def _payload_type(line: str) -> str:
    return line.partition(":")[2].partition(" ")[0]


def _bundle(mids: Iterable[str]) -> str:
    return " ".join(["a=group:BUNDLE", *mids])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
