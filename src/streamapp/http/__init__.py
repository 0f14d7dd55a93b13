"""The server's own face: requests in, streams and results out."""
