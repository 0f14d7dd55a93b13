"""Read what a browser offers, and refuse what is no session of ours, before anything is opened for it.

Divergence: where no ICE server is set none of the offer's candidates is taken. They are addresses that somebody wrote
down, to each of which this machine would send packets: a scan of its network. It answers the client's own checks
instead, which show where it is, as ICE knows from servers that are reached at their addresses
(https://www.rfc-editor.org/rfc/rfc8445#section-7.3.1.3). With a NAT before the server it has to send first; then
public addresses are taken.
"""

from typing import Literal, NamedTuple

from aiortc import RTCIceCandidate
from aiortc.sdp import MediaDescription, SessionDescription
from pydantic import BaseModel, ConfigDict, Field

from ..addresses import address_in, is_public_address
from ..errors import InvalidInput

MAX_BYTES = 64 * 1024
_MAX_CANDIDATES = 16
_MESSAGE_BYTES = 65_536  # what every data channel holds, and `pieces` needs


class Description(BaseModel):
    """Hold an offer as it came: `RTCPeerConnection.localDescription` of a browser, as JSON."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["offer"]
    sdp: str = Field(max_length=MAX_BYTES)


class Offer(NamedTuple):
    """Hold what of an offer counts.

    Attributes:
        sdp: it, without candidates.
        has_video: the client takes a video.
        candidates: where it says that it can be reached: public addresses, as many as are tried.
    """

    sdp: str
    has_video: bool
    candidates: list[RTCIceCandidate]


def read(sdp: str) -> Offer:
    """Return what an offer says.

    Raises:
        InvalidInput: it is none, or not of a session.
    """
    try:
        parsed = SessionDescription.parse(sdp)
    except Exception as error:  # aiortc's parser, at whatever somebody has written
        raise InvalidInput(f"sdp: expected an offer, {_why(error)}") from error
    kinds = sorted(media.kind for media in parsed.media)
    if kinds not in (["application"], ["application", "video"]):
        raise InvalidInput(
            f"sdp: expected one data channel, and a video to be received, got {', '.join(kinds) or 'nothing'}; write "
            'pc.createDataChannel("streamapp.v1") and pc.addTransceiver("video", {direction: "recvonly"})'
        )
    for media in parsed.media:
        _check(media)
    mids = [media.rtp.muxId for media in parsed.media]
    bundle = next((group.items for group in parsed.group if group.semantic == "BUNDLE"), mids[:1])
    if len({*mids}) < len(mids) or {*mids} != {*bundle}:
        raise InvalidInput("sdp: expected one transport for all, a=group:BUNDLE with each a=mid and no other")
    return Offer(_without_candidates(sdp), "video" in kinds, _candidates(parsed))


def _why(error: Exception) -> str:
    return f"got one that cannot be read: {type(error).__name__} {error}"[:200]


def _check(media: MediaDescription) -> None:
    if media.dtls is None or not media.dtls.fingerprints:
        raise InvalidInput(f"sdp: expected a=fingerprint for {media.kind}, got none")
    if media.ice is None or not (media.ice.usernameFragment and media.ice.password):
        raise InvalidInput(f"sdp: expected a=ice-ufrag and a=ice-pwd for {media.kind}, got none")
    capabilities = media.sctpCapabilities
    if capabilities is not None and capabilities.maxMessageSize != 0 and capabilities.maxMessageSize < _MESSAGE_BYTES:
        size = capabilities.maxMessageSize
        raise InvalidInput(f"sdp: expected a=max-message-size of {_MESSAGE_BYTES} or more, or 0 for any, got {size}")
    if media.kind == "video" and media.direction not in ("recvonly", "sendrecv"):
        raise InvalidInput(f'sdp: expected a video that is received, direction "recvonly", got {media.direction}')


def _without_candidates(sdp: str) -> str:
    """Return an offer without its candidates, and without the word that there are no others."""
    lines = sdp.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates")))


def _candidates(parsed: SessionDescription) -> list[RTCIceCandidate]:
    found = []
    for media in parsed.media:
        for candidate in media.ice_candidates:
            address = address_in(candidate.ip)
            if candidate.protocol.lower() == "udp" and address is not None and is_public_address(str(address)):
                candidate.sdpMid = media.rtp.muxId
                found.append(candidate)
    return found[:_MAX_CANDIDATES]
