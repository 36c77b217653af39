"""``python -m slipway.weights``: the download step of a pod."""

from slipway.pods import run_order
from slipway.weights import FetchOrder, fetch

if __name__ == "__main__":
    run_order(FetchOrder, fetch)
