"""Runs golden vectors of the published reference implementations through this project's own code."""

from cosmos_nemo.golden.runner import run

__all__ = ["run"]
