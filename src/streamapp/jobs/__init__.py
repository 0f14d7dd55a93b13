"""What happened to a job: its events and their log, what was asked for, its states, and where to find it."""
