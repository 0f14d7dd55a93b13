"""Who runs a job: the inference thread, tasks on the loop, and what every worker needs."""
