"""Tell whether there is a GPU, without torch."""

import subprocess


def is_available() -> bool:
    """Say whether `nvidia-smi` finds one. Blocks."""
    try:
        found = subprocess.run(["nvidia-smi"], capture_output=True, check=False)
    except OSError:
        return False
    return found.returncode == 0 and b"NVIDIA-SMI" in found.stdout
