"""Run the command line as `python -m streamapp`."""

from .cli import main

main()
