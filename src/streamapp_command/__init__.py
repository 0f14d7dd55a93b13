"""Start the command line `streamapp`: a Ctrl-C while it is still being imported shows no traceback.

Outside of the package, whose first module is imported before any module in it runs.
"""

import importlib
import signal


def main() -> None:
    """Run the command line."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # and not ignored, as in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    command_line = importlib.import_module("streamapp.later").import_at_once("streamapp.cli.main")
    signal.signal(signal.SIGINT, heard)
    command_line.main()
