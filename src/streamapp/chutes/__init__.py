"""Serve what was written for Chutes: `from streamapp.chutes import Chute, Image, NodeSelector` is the line to change.

    from streamapp.chutes import Chute

    chute = Chute(username="me", name="counter")

    @chute.cord(public_api_path="/count", stream=True, output_content_type="application/json")
    async def count(self, up_to: int = 3):
        for n in range(up_to):
            yield {"n": n}

`streamapp serve counter.py` serves it. What of Chutes works, and what does not, stands in `docs/migrate/chutes.md`.
"""

from typing import TYPE_CHECKING

from ..later import names_of

if TYPE_CHECKING:
    from .chute import Chute
    from .image import Image
    from .selector import NodeSelector
else:
    __getattr__ = names_of(
        __name__,
        {"Chute": "chute", "Image": "image", "NodeSelector": "selector"},
        modules=("chute", "image", "selector"),
    )

__all__ = ["Chute", "Image", "NodeSelector"]
