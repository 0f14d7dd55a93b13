"""The documentation's tools: its pages run as they stand, their tables made from the code, the site put together."""
