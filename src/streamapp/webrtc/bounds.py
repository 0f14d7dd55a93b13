"""Bound what a client's packets cost: aiortc takes each as it comes, on the loop, whatever it says.

It keeps all that is announced and not whole, looks through it with each further piece, goes through each number of a
range that an acknowledgement names, and sends a packet again as often as it is asked for. A browser's packets are far
from these bounds; who goes beyond them is cut, and so is who sends what cannot be read.
"""

import time
from collections import deque
from collections.abc import Callable

from aiortc import RTCPeerConnection, RTCRtpSender
from aiortc.rtcsctptransport import RTCSctpTransport, SackChunk

from ..process.logs import logger

# As many pieces as a client may be ahead of one that is missing, or have acknowledged: twice what its window holds of
# full ones, 1 MiB.
_MOST_PIECES = 2048
# A video here has some 150 packets a second.
_MOST_RESENT, _RESENT_S = 500, 1.0


def bound(pc: RTCPeerConnection, cut: Callable[[], None]) -> None:
    """Have a connection end where its client goes beyond the bounds; once it is answered.

    Args:
        cut: called then.
    """
    assert pc.sctp is not None  # there is no offer without
    _bound_association(pc.sctp, cut)
    for sender in pc.getSenders():
        _bound_resending(sender)


def _bound_association(sctp: RTCSctpTransport, cut: Callable[[], None]) -> None:
    handle, acknowledge = sctp._handle_data, sctp._receive_sack_chunk

    async def handle_bounded(data: bytes) -> None:
        try:
            await handle(data)
            _check(sctp)
        except Exception as error:  # aiortc's, at whatever a packet is made of
            logger.info("a peer is cut off: %s %s", type(error).__name__, error)
            cut()
            raise ConnectionAbortedError from error  # with which its connection takes nothing more

    async def acknowledge_bounded(chunk: SackChunk) -> None:
        if sum(last - first for first, last in chunk.gaps) > len(sctp._sent_queue) + _MOST_PIECES:
            raise ValueError("it acknowledges more than it was sent")
        await acknowledge(chunk)

    sctp._handle_data = handle_bounded  # type: ignore[method-assign]
    sctp._receive_sack_chunk = acknowledge_bounded  # type: ignore[method-assign]


def _check(sctp: RTCSctpTransport) -> None:
    """Raise where a client sends beyond its window, or more than one stream, which its one channel is."""
    streams = sctp._inbound_streams
    waiting = max([len(sctp._sack_misordered), *(len(stream.reassembly) for stream in streams.values())])
    if sctp._advertised_rwnd < 0 or waiting > _MOST_PIECES or len(streams) > 1:
        raise ValueError(f"{waiting} pieces wait for others, in {len(streams)} streams")


def _bound_resending(sender: RTCRtpSender) -> None:
    resend, times = sender._retransmit, deque[float](maxlen=_MOST_RESENT)

    async def resend_bounded(sequence_number: int) -> None:
        now = time.monotonic()
        if len(times) < _MOST_RESENT or now - times[0] > _RESENT_S:
            times.append(now)
            await resend(sequence_number)

    sender._retransmit = resend_bounded  # type: ignore[method-assign]
