"""Preflight checks: what must be so before a deployment, each answered by a finding with its remedy."""
