"""The likely cause in a log that ends badly: patterns that were seen often enough to be named."""

from __future__ import annotations

import re
from typing import NamedTuple

from slipway.errors import bounded


class Likely(NamedTuple):
    """What a log says of how its program ended.

    Attributes:
        text: one line with the cause and the log's own line.
        remedy: what to do about it, or "" where nothing is known of such lines.
    """

    text: str
    remedy: str = ""


_LESS = "Take a larger card, or ask for less: a shorter context, fewer requests at once, a lower memory_utilization"
_NO_CARD = "Let the endpoint ask for a card (accelerator, cards), and look at the node's device plugin"
# Pattern, what it means and what to do; the first that matches a line wins, so the special ones come before the
# general ones.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"unrecognized arguments?:?\s*(.*)",
        "the runtime doesn't know an argument",
        "Correct the args of the endpoint or of its runtime",
    ),
    (
        r"error: argument (--?\S+.*)",
        "an argument has a wrong value",
        "Correct the args of the endpoint or of its runtime",
    ),
    (r"No module named '?[\w.]+", "a Python module is missing in the image", "Use an image that has it"),
    (
        r"Address already in use",
        "the port is in use",
        "Let nothing else in the pod, or with host_network on the node, listen there; or change the runtime's port",
    ),
    (
        r"Free memory on device .* is less than desired",
        "the card's free memory is less than the runtime wants",
        "Look who else uses the card: nvidia-smi; or lower the endpoint's memory_utilization",
    ),
    (r"CUDA out of memory|torch\.OutOfMemoryError", "the card's memory is too small", _LESS),
    (
        r"KV cache .*(larger than|needed).*|No available memory for the cache blocks",
        "the KV cache doesn't fit",
        _LESS,
    ),
    (
        # CUDA's own words and PyTorch's.
        r"CUDA driver version is insufficient|forward compatibility was attempted|driver on your system is too old",
        "the node's driver is older than the image's CUDA",
        "Update the node's driver, or use an image with an older CUDA",
    ),
    (r"no CUDA-capable device|No CUDA GPUs are available", "the container sees no GPU", _NO_CARD),
    (r"libcuda\.so\.1: cannot open", "the container has no NVIDIA driver: it got no GPU", _NO_CARD),
    (
        r"CUDA error.*|CUDA_ERROR_\w+",
        "CUDA failed",
        "Look at the node's kernel log for Xid errors, and at the card: nvidia-smi",
    ),
    (
        r"NCCL error|unhandled system error",
        "the cards cannot talk to each other (shared memory or network)",
        "Raise the endpoint's shared_memory; set NCCL_DEBUG=INFO in its env to see more",
    ),
    (
        r"No usable temporary directory",
        "the temporary directory cannot be written",
        "Raise the runtime's scratch, or let its user write there",
    ),
    (
        r"has no attribute 'init_cpu_memory_env'",
        "libnuma is missing in the image",
        "Use an image that has libnuma",
    ),
    (
        r"does not appear to have a file named config\.json",
        "the model directory has no config.json",
        "Bring the weights again, from a source that is a whole model",
    ),
    (
        r"safetensors.*(InvalidHeader|header)|Error while deserializing header",
        "a weights file is damaged",
        "Bring the weights again: with another revision they go into a directory of their own",
    ),
    (
        r"No space left on device",
        "the disk is full",
        "Raise the runtime's scratch or shared_memory, or free the node's disk",
    ),
    (
        r"No such file or directory.*|FileNotFoundError.*",
        "a file is missing",
        "Correct the path in the runtime's args, or bring what it names",
    ),
    (
        r"Permission denied.*|PermissionError.*",
        "a file may not be read or written by the pod's user",
        "Correct the runtime's user, or who owns the file",
    ),
    (
        r"MemoryError|[Oo]ut of memory|Cannot allocate memory",
        "the memory is too small",
        "Raise the endpoint's memory, or ask for less: a shorter context, a smaller KV cache",
    ),
    (
        r"Illegal instruction|SIGILL",
        "the processor lacks an instruction that the image was built for",
        "Use an image for this processor, or another node",
    ),
)
_COMPILED = tuple((re.compile(pattern), cause, remedy) for pattern, cause, remedy in _CAUSES)
_TRACEBACK_END = re.compile(r"^(?:.*\b)?([A-Z]\w*(?:Error|Exception)): (.+)$")


def likely_cause(log: str) -> Likely | None:
    """Return the likely cause with the log's own line; where nothing known is in it, its last error or line.

    Read from the end: the last known line is nearer to the end of the program than the first.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for pattern, cause, remedy in _COMPILED:
        for line in reversed(lines):
            if pattern.search(line):
                return Likely(f"{cause}: {bounded(line, limit=200)}", remedy)
    for line in reversed(lines):
        if _TRACEBACK_END.match(line):
            return Likely(bounded(line, limit=250))
    return Likely(f"its log ends with: {bounded(lines[-1], limit=200)}") if lines else None
