"""The language model by `transformers serve`, with the options that follow the port."""

import os
import sys

from benchmarks.peers.llm.model import made

if __name__ == "__main__":
    port, *options = sys.argv[1:]
    program = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(made())]
    fixed = ["--device", "cpu", "--dtype", "float32", "--attn-implementation", "sdpa", "--host", "127.0.0.1"]
    os.execv(sys.executable, [*program, *fixed, "--port", port, *options])
