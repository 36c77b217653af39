"""The likely cause in a log that ends badly: patterns that were seen often enough to be named."""

from __future__ import annotations

import re

from slipway.errors import bounded

# Pattern and what it means; the first that matches a line wins, so the special ones come before the general
# ones.
_CAUSES: tuple[tuple[str, str], ...] = (
    (r"unrecognized arguments?:?\s*(.*)", "the runtime doesn't know an argument"),
    (r"error: argument (--?\S+.*)", "an argument has a wrong value"),
    (r"No module named '?[\w.]+", "a Python module is missing in the image"),
    (r"Address already in use", "the port is in use"),
    (
        r"Free memory on device .* is less than desired",
        "the card's free memory is less than the runtime wants",
    ),
    (r"CUDA out of memory|torch\.OutOfMemoryError", "the card's memory is too small"),
    (
        r"KV cache .*(larger than|needed).*|No available memory for the cache blocks",
        "the KV cache doesn't fit",
    ),
    (
        r"CUDA driver version is insufficient|forward compatibility was attempted",
        "the node's driver is older than the image's CUDA",
    ),
    (r"no CUDA-capable device|No CUDA GPUs are available", "the container sees no GPU"),
    (r"libcuda\.so\.1: cannot open", "the container has no NVIDIA driver: it got no GPU"),
    (r"CUDA error.*|CUDA_ERROR_\w+", "CUDA failed"),
    (r"NCCL error|unhandled system error", "the cards cannot talk to each other (shared memory or network)"),
    (r"No usable temporary directory", "the temporary directory cannot be written"),
    (r"has no attribute 'init_cpu_memory_env'", "libnuma is missing in the image"),
    (r"does not appear to have a file named config\.json", "the model directory has no config.json"),
    (r"safetensors.*(InvalidHeader|header)|Error while deserializing header", "a weights file is damaged"),
    (r"No space left on device", "the disk is full"),
    (r"No such file or directory.*|FileNotFoundError.*", "a file is missing"),
    (r"Permission denied.*|PermissionError.*", "a file may not be read or written by the pod's user"),
    (r"MemoryError|[Oo]ut of memory|Cannot allocate memory", "the memory is too small"),
    (r"Illegal instruction|SIGILL", "the processor lacks an instruction that the image was built for"),
)
_COMPILED = tuple((re.compile(pattern), cause) for pattern, cause in _CAUSES)
_TRACEBACK_END = re.compile(r"^(?:.*\b)?([A-Z]\w*(?:Error|Exception)): (.+)$")


def likely_cause(log: str) -> str:
    """Return one line with the likely cause and the log's own line, or "" when nothing known is in it.

    Read from the end: the last known line is nearer to the end of the program than the first.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for pattern, cause in _COMPILED:
        for line in reversed(lines):
            if pattern.search(line):
                return f"{cause}: {bounded(line, limit=200)}"
    for line in reversed(lines):
        if _TRACEBACK_END.match(line):
            return bounded(line, limit=250)
    return ""
