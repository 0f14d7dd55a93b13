"""Sessions by WebSocket: what they need of their connection, and what is spoken over it."""
