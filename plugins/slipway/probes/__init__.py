"""Probes: is an endpoint really serving? Runs in a pod and in a terminal, without Airflow."""

from slipway.probes.orders import ProbeOrder, ProbeResult, ProbeStep
from slipway.probes.probe import probe

__all__ = ["ProbeOrder", "ProbeResult", "ProbeStep", "probe"]
