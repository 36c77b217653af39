"""``python -m slipway.weights.remove``: the pod that lists and removes versions of weights."""

from slipway.pods import run_order
from slipway.weights.retention import RetentionOrder, keep_and_remove

if __name__ == "__main__":
    run_order(RetentionOrder, keep_and_remove)
