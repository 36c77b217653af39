"""``python -m slipway.probes``: the probe step of a pod."""

from slipway.pods import run_order
from slipway.probes import ProbeOrder, probe

if __name__ == "__main__":
    run_order(ProbeOrder, probe)
