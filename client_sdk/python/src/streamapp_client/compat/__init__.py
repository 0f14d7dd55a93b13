"""Adapt the clients of others to streamapp servers, one module for each."""
