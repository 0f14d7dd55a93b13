"""Run the command line as `python -m streamapp`."""

from .cli.main import main

main()
