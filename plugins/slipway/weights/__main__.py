"""``python -m slipway.weights``: the download step of a pod."""

from slipway.pods import run_order
from slipway.weights.bring import bring
from slipway.weights.orders import FetchOrder

if __name__ == "__main__":
    run_order(FetchOrder, bring)
