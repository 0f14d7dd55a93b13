"""Run the command line as `python -m streamapp`."""

from .later import import_at_once

import_at_once("streamapp.cli.main").main()
