"""``python -m slipway.benchmark``: the measuring step of a pod."""

from slipway.benchmark import BenchmarkOrder, benchmark
from slipway.pods import run_order

if __name__ == "__main__":
    run_order(BenchmarkOrder, benchmark)
