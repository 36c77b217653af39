"""Benchmark: load by vLLM's own client, its result checked and rendered; stdlib and pydantic only."""

from slipway.benchmark.orders import BenchmarkOrder, BenchmarkResult, Workload
from slipway.benchmark.run import benchmark, check_valid, whole_raw
from slipway.benchmark.table import format_table

__all__ = [
    "BenchmarkOrder",
    "BenchmarkResult",
    "Workload",
    "benchmark",
    "check_valid",
    "format_table",
    "whole_raw",
]
