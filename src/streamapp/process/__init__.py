"""What is the process itself: its log, its threads, its end, its children."""
