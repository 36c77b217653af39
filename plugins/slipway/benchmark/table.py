"""vLLM's 'Serving Benchmark Result' table from its JSON, for people: the demo, the terminal, the page.

The lines, their order and their format are those of vllm/benchmarks/serve.py (0.32.0), so that people find
what they know. A line whose value the JSON does not have is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_WIDTH = 50
_METRICS = (
    ("ttft", "TTFT", "Time to First Token"),
    ("tpot", "TPOT", "Time per Output Token (excl. 1st token)"),
    ("itl", "ITL", "Inter-token Latency"),
    ("e2el", "E2EL", "End-to-end Latency"),
    ("client_queue_time", "Client Queue Time", "Client-side Queueing"),
    ("e2el_including_client_queue", "E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency"),
)
_TOTALS = (
    ("completed", "Successful requests:", "{:<10}"),
    ("failed", "Failed requests:", "{:<10}"),
    ("max_concurrency", "Maximum request concurrency:", "{:<10}"),
    ("request_rate", "Request rate configured (RPS):", "{:<10.2f}"),
    ("duration", "Benchmark duration (s):", "{:<10.2f}"),
    ("total_input_tokens", "Total input tokens:", "{:<10}"),
    ("total_output_tokens", "Total generated tokens:", "{:<10}"),
    ("request_throughput", "Request throughput (req/s):", "{:<10.2f}"),
    ("request_goodput", "Request goodput (req/s):", "{:<10.2f}"),
    ("output_throughput", "Output token throughput (tok/s):", "{:<10.2f}"),
    ("max_output_tokens_per_s", "Peak output token throughput (tok/s):", "{:<10.2f}"),
    ("max_concurrent_requests", "Peak concurrent requests:", "{:<10.2f}"),
    ("total_token_throughput", "Total token throughput (tok/s):", "{:<10.2f}"),
)


def format_table(raw: Mapping[str, Any]) -> str:
    """Render the table from the client's JSON."""
    lines = [" Serving Benchmark Result ".center(_WIDTH, "=")]
    for key, label, form in _TOTALS:
        value = raw.get(key)
        if value is not None and value != "inf":
            lines.append(_line(label, form, value))
    for key, name, header in _METRICS:
        if f"mean_{key}_ms" not in raw:
            continue
        lines.append(header.center(_WIDTH, "-"))
        lines.append(_line(f"Mean {name} (ms):", "{:<10.2f}", raw[f"mean_{key}_ms"]))
        lines.append(_line(f"Median {name} (ms):", "{:<10.2f}", raw[f"median_{key}_ms"]))
        found = (re.fullmatch(rf"p([0-9.]+)_{key}_ms", column) for column in raw)
        percentiles = sorted((match[1] for match in found if match), key=float)
        lines.extend(
            _line(f"P{word} {name} (ms):", "{:<10.2f}", raw[f"p{word}_{key}_ms"]) for word in percentiles
        )
    if "spec_decode_acceptance_rate" in raw:
        lines.append("Speculative Decoding".center(_WIDTH, "-"))
        lines.append(_line("Acceptance rate (%):", "{:<10.2f}", raw["spec_decode_acceptance_rate"]))
        lines.append(_line("Acceptance length:", "{:<10.2f}", raw["spec_decode_acceptance_length"]))
    lines.append("=" * _WIDTH)
    return "\n".join(lines)


def _line(label: str, form: str, value: Any) -> str:
    return f"{label:<40} {form.format(value)}"
