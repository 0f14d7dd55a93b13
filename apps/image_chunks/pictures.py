"""Pictures to begin with: drawn here, so that they are nobody's, with faint detail to be brought out."""

import base64
import io

import numpy as np
import PIL.Image

SIZE = (360, 240)
CRESTS = (
    (0.42, 0.09, 3.1),
    (0.57, 0.07, 4.3),
    (0.74, 0.08, 2.2),
)  # how high each hill is, how much it swings, how often

Colour = tuple[int, int, int]
DAWN = ((246, 214, 176), (226, 134, 156), (255, 240, 214)), ((206, 142, 122), (168, 92, 104), (96, 58, 92))
NIGHT = ((24, 34, 72), (60, 92, 128), (236, 240, 250)), ((56, 92, 120), (38, 62, 98), (22, 32, 62))


def dunes(sky: tuple[Colour, Colour, Colour], hills: tuple[Colour, Colour, Colour]) -> str:
    """Return dunes with ripples as the data URI of a JPEG, the same at each call.

    Args:
        sky: its colours above and below, and that of what shines there.
        hills: their colours, the farthest first.
    """
    width, height = SIZE
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    above, below, light = np.array(sky, float)
    picture = above + y[..., None] * (below - above)
    picture[np.hypot((x - 0.7) * width / height, y - 0.25) < 0.11] = light
    for (top, swing, waves), colour in zip(CRESTS, hills, strict=True):
        depth = y - top - swing * np.sin(waves * np.pi * x + 9 * top) * np.cos(2.3 * x + 20 * top)
        ripples = 5 * np.sin(260 * depth + 9 * np.sin(14 * x)) * np.clip(12 * depth, 0, 1)
        picture = np.where(depth[..., None] > 0, colour + ripples[..., None], picture)
    file = io.BytesIO()
    PIL.Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
