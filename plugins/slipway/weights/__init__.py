"""Weights: sources, transfer, verification and the ready marker; runs in pods and in the terminal.

A module that only passes orders on imports ``slipway.weights.orders``: this one brings the whole engine.
"""

from slipway.weights.fetch import fetch
from slipway.weights.orders import FetchOrder, FetchResult, S3Settings

__all__ = ["FetchOrder", "FetchResult", "S3Settings", "fetch"]
