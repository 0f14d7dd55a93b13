"""An app whose jobs take turns, and whose events say whose they are: `python by_turns.py PORT`."""

import sys
from collections.abc import Iterator
from typing import Any

import streamapp
from streamapp.serve.server import bind, serve


class ByTurns(streamapp.App, max_running=16):
    def setup(self) -> None:
        self.started = self.open = self.most_open = 0

    @streamapp.endpoint("/numbers")
    def numbers(self, who: int, n: int) -> Iterator[Any]:
        """Emit `n` numbered events, each 20th of some text, with a preview before each."""
        self.started += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            for i in range(n):
                yield streamapp.Preview({"who": who, "n": i})
                yield {"who": who, "n": i, "text": "ä€🙂" * (200 if i % 20 == 10 else 1)}
        finally:
            self.open -= 1

    @streamapp.endpoint("/usage")
    async def usage(self) -> dict[str, int]:
        """Tell how many streams were started, and are open."""
        return {"started": self.started, "open": self.open, "most open": self.most_open}


if __name__ == "__main__":
    sys.exit(serve(streamapp.compile_app(ByTurns), bind("127.0.0.1", int(sys.argv[1])), log_level="error"))
