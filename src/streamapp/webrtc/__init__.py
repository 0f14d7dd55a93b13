"""Serve sessions to browsers by WebRTC, besides their WebSockets; needs the extra `webrtc`."""
