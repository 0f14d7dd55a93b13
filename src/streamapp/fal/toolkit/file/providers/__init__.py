"""Hold the stores for files."""
