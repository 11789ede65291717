"""Offers of publishers and players, as text."""

from __future__ import annotations

import pytest
from aiortc.sdp import SessionDescription

from streamseg.errors import BadMessageError, OfferRefusedError, PatchRefusedError, StreamsegError
from streamseg.service.whip_rules import candidates_of, ice_links, take
from streamseg.settings import IceServer

FINGERPRINT = "a=fingerprint:sha-256 " + ":".join(["5A"] * 32)
SOUND = """m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:0
a=sendonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1"""
VIDEO = """m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=mid:1
a=sendonly
a=rtcp-mux
a=rtpmap:96 H264/90000
a=rtcp-fb:96 nack
a=fmtp:96 profile-level-id=640c1f;packetization-mode=1;level-asymmetry-allowed=1
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96"""
TRANSPORT = f"""a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
{FINGERPRINT}
a=setup:actpass"""
CANDIDATE = "a=candidate:1 1 UDP 2122317823 192.0.2.7 50000 typ host"
SESSION = """v=0
o=- 1 0 IN IP4 127.0.0.1
s=-
t=0 0"""
# Everything that is shared once for the session, the addresses in the first section.
OBS = f"{SESSION}\na=group:BUNDLE 0 1\n{TRANSPORT}\n{SOUND}\n{CANDIDATE}\na=end-of-candidates\n{VIDEO}"
# All of it in every section.
FFMPEG = f"{SESSION}\na=group:BUNDLE 0 1\n{SOUND}\n{TRANSPORT}\n{VIDEO}\n{TRANSPORT}"
# All of it in the first section.
FIRST = f"{SESSION}\na=group:BUNDLE 0 1\n{SOUND}\n{TRANSPORT}\n{CANDIDATE}\n{VIDEO}"
SILENT = f"{SESSION}\na=group:BUNDLE 1\n{VIDEO}\n{TRANSPORT}\n{CANDIDATE}"

ANSWER = f"""{SESSION}
a=group:BUNDLE 1
m=video 4000 UDP/TLS/RTP/SAVPF 96
c=IN IP4 203.0.113.1
a=recvonly
a=mid:1
a=rtcp-mux
a=rtpmap:96 H264/90000
a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=candidate:2 1 udp 5 203.0.113.1 4000 typ host
a=end-of-candidates
a=ice-ufrag:efgh
a=ice-pwd:9876543210987654321098
{FINGERPRINT}
a=setup:active"""


@pytest.mark.parametrize("offer", [OBS, FFMPEG, FIRST, SILENT], ids=["obs", "ffmpeg", "first", "silent"])
def test_only_the_video_of_an_offer_is_taken(offer: str) -> None:
    taken = take(offer, "whip")
    assert taken.remote_name == "abcd"
    parsed = SessionDescription.parse(taken.sdp)
    (media,) = parsed.media
    assert (media.kind, media.rtp.muxId, media.ice.usernameFragment) == ("video", "1", "abcd")
    assert media.dtls is not None
    assert len(media.dtls.fingerprints) == 1
    assert [one.ip for one in media.ice_candidates] == ([] if offer is FFMPEG else ["192.0.2.7"])
    assert [group.items for group in parsed.group] == [["1"]]


@pytest.mark.parametrize("offer", [OBS, FFMPEG, FIRST])
def test_sound_is_answered_as_inactive_on_the_same_transport(offer: str) -> None:
    answer = SessionDescription.parse(take(offer, "whip").answer(ANSWER))
    sound, video = answer.media
    assert (sound.kind, sound.direction, sound.rtp.muxId, sound.fmt) == ("audio", "inactive", "0", [111])
    assert sound.port == 9
    assert (video.kind, video.direction, video.rtp.muxId) == ("video", "recvonly", "1")
    assert answer.group[0].items == ["0", "1"]
    assert sound.ice == video.ice
    assert sound.dtls == video.dtls
    assert sound.rtcp_mux
    assert [one.ip for one in sound.ice_candidates] == ["203.0.113.1"]


def test_every_profile_of_h264_is_taken_from_a_publisher() -> None:
    taken = take(OBS, "whip")
    assert "profile-level-id=42e01f" in taken.sdp
    assert "profile-level-id=640c1f" in taken.answer(ANSWER)
    assert "profile-level-id=42e01f" not in taken.answer(ANSWER)


def test_a_player_gets_the_profile_that_it_can_play() -> None:
    offer = SILENT.replace("sendonly", "recvonly")
    assert "profile-level-id=640c1f" in take(offer, "whep").sdp


def test_nothing_is_taken_from_a_player_that_offers_to_send() -> None:
    (video,) = SessionDescription.parse(take(SILENT.replace("sendonly", "sendrecv"), "whep").sdp).media
    assert video.direction == "recvonly"


@pytest.mark.parametrize(
    ("role", "offer", "error"),
    [
        ("whip", "", BadMessageError),
        ("whip", "hello", BadMessageError),
        ("whip", "m=video", OfferRefusedError),
        ("whip", SILENT + f"\n{SOUND}" * 9, BadMessageError),
        ("whip", f"{SESSION}\n{SOUND}\n{TRANSPORT}", OfferRefusedError),
        ("whip", f"{FFMPEG}\n{VIDEO}", OfferRefusedError),
        ("whip", f"{FFMPEG}\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel", OfferRefusedError),
        ("whip", FFMPEG.replace("BUNDLE 0 1", "BUNDLE 1"), OfferRefusedError),
        ("whip", FFMPEG.replace("a=mid:0", "a=mid:1"), OfferRefusedError),
        ("whip", SILENT.replace("sendonly", "recvonly"), OfferRefusedError),
        ("whep", SILENT, OfferRefusedError),
        ("whep", SILENT.replace("sendonly", "inactive"), OfferRefusedError),
        ("whip", SILENT.replace("H264", "H265"), OfferRefusedError),
        ("whip", SILENT.replace("packetization-mode=1", "packetization-mode=0"), OfferRefusedError),
        ("whip", SILENT.replace(FINGERPRINT, "a=x"), BadMessageError),
        ("whip", SILENT.replace("a=ice-pwd", "a=x"), BadMessageError),
        ("whip", SILENT.replace("a=rtcp-mux", "a=x"), BadMessageError),
        ("whip", SILENT.replace("96 97", "abc"), BadMessageError),
    ],
)
def test_other_offers_are_refused(role, offer: str, error: type[StreamsegError]) -> None:
    with pytest.raises(error):
        take(offer, role)


def test_a_fragment_has_more_candidates() -> None:
    fragment = (
        f"a=ice-ufrag:abcd\r\na=ice-pwd:x\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n{CANDIDATE}\r\na=end-of-candidates"
    )
    assert candidates_of(fragment, "abcd") == [CANDIDATE.removeprefix("a=")]
    assert candidates_of("", "abcd") == []


def test_a_fragment_that_restarts_ice_is_refused() -> None:
    with pytest.raises(PatchRefusedError):
        candidates_of("a=ice-ufrag:efgh\r\na=ice-pwd:x\r\n", "abcd")
    with pytest.raises(BadMessageError):
        candidates_of("<html>", "abcd")


def test_ice_servers_are_links() -> None:
    turn = IceServer(urls=["turn:t.example:3478?transport=udp"], username='a"b', credential="c\\d")
    assert ice_links([IceServer(urls=["stun:s.example:3478"]), turn]) == [
        '<stun:s.example:3478>; rel="ice-server"',
        '<turn:t.example:3478?transport=udp>; rel="ice-server"; username="a\\"b"; credential="c\\\\d"; '
        'credential-type="password"',
    ]
