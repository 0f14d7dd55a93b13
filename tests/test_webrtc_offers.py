"""What of an offer is taken, and what is refused before anything is opened for it."""

import random

import pytest
from tests.webrtc_browser import Browser, browsers_are_here  # noqa: F401 - a fixture

from streamapp.errors import InvalidInput
from streamapp.webrtc.offers import read

FINGERPRINT = "a=fingerprint:sha-256 " + ":".join(["0A"] * 32)
ICE = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv"
VIDEO = (
    f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n{ICE}\r\n{FINGERPRINT}\r\na=setup:actpass\r\na=mid:0\r\n"
)
VIDEO += "a=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"
DATA = f"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n{ICE}\r\n{FINGERPRINT}\r\n"
DATA += "a=setup:actpass\r\na=mid:1\r\na=sctp-port:5000\r\n"
HEAD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
BUNDLE = "a=group:BUNDLE 0 1\r\n"


def candidate(address: str, protocol: str = "udp") -> str:
    return f"a=candidate:1 1 {protocol} 2122260223 {address} 4000 typ host\r\n"


def test_an_offer_has_a_data_channel_and_perhaps_a_video() -> None:
    assert read(HEAD + BUNDLE + VIDEO + DATA).has_video
    assert not read(HEAD + DATA).has_video
    assert not read(HEAD + "a=group:BUNDLE 1\r\n" + DATA + "a=max-message-size:0\r\n").has_video
    assert read(HEAD + "a=group:BUNDLE 1 0\r\n" + DATA + VIDEO).has_video


@pytest.mark.parametrize(
    ("sdp", "why"),
    [
        ("", "got nothing"),
        ("nonsense", "got one that cannot be read|got nothing"),
        (HEAD, "got nothing"),
        (HEAD + VIDEO, "got video"),
        (HEAD + DATA + DATA, "got application, application"),
        (HEAD + BUNDLE + VIDEO.replace("m=video", "m=audio") + DATA, "got application, audio"),
        (HEAD + BUNDLE + VIDEO + DATA.replace(FINGERPRINT, "a=x"), "a=fingerprint for application"),
        (HEAD + BUNDLE + VIDEO.replace(ICE, "a=x") + DATA, "a=ice-ufrag and a=ice-pwd for video"),
        (HEAD + BUNDLE + VIDEO.replace("recvonly", "sendonly") + DATA, "got sendonly"),
        (HEAD + VIDEO + DATA, "a=group:BUNDLE"),
        (HEAD + "a=group:BUNDLE 0\r\n" + VIDEO + DATA, "a=group:BUNDLE"),
        (HEAD + "a=group:BUNDLE x 0 1\r\n" + VIDEO + DATA, "a=group:BUNDLE"),
        (HEAD + "a=group:BUNDLE x 1\r\n" + DATA, "a=group:BUNDLE"),
        (HEAD + "a=group:BUNDLE 1 1\r\n" + VIDEO.replace("mid:0", "mid:1") + DATA, "a=group:BUNDLE"),
        (HEAD + DATA + "a=max-message-size:100\r\n", "max-message-size of 65536 or more"),
        (HEAD + "m=video x y z\r\n", "cannot be read|got"),
    ],
)
def test_what_is_no_offer_of_a_session_is_refused(sdp: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read(sdp)


def test_candidates_do_not_reach_the_connection() -> None:
    sdp = HEAD + DATA + candidate("93.184.216.34") + "a=end-of-candidates\r\n"
    assert "candidate" not in read(sdp).sdp


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "224.0.0.1", "a1b2.local", "example.org"]
)
def test_an_address_that_is_not_public_is_no_candidate(address: str) -> None:
    assert read(HEAD + DATA + candidate(address)).candidates == []


def test_a_public_address_is_a_candidate_by_udp_and_so_many_are_tried() -> None:
    assert [each.ip for each in read(HEAD + DATA + candidate("93.184.216.34")).candidates] == ["93.184.216.34"]
    assert read(HEAD + DATA + candidate("93.184.216.34", "tcp")).candidates == []
    many = "".join(candidate(f"93.184.216.{n}") for n in range(100))
    assert len(read(HEAD + DATA + many).candidates) == 16


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_an_offer_is_made_of_it_is_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    lines = (HEAD + BUNDLE + VIDEO + DATA).split("\r\n")
    for _ in range(200):
        changed = [chance.choice(lines)[: chance.randrange(40)] if chance.random() < 0.1 else line for line in lines]
        try:
            read("\r\n".join(changed))
        except InvalidInput:
            pass


async def test_what_a_browser_offers_is_taken() -> None:
    offer = await (browser := Browser()).offer()
    assert read(offer["sdp"]).has_video
    await browser.close()
