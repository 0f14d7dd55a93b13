"""What is kept beyond a request, or beyond the process."""
