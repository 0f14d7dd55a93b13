"""Help endpoints to end when nobody waits for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request


@asynccontextmanager
async def cancel_on_disconnect(request: Request) -> AsyncIterator[None]:
    """Run a block whose job ends when its client leaves, which every job here does.

    Divergence: fal's watches `request`. The request of a queued job ends at its submission, and the job goes on.
    """
    yield
