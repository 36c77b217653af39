"""Slipway: puts large language models into service on Kubernetes and keeps them there."""
