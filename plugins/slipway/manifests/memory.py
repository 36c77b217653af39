"""What serving a model takes of memory: the formulas, each with where it comes from. All amounts are bytes.

The truth for weights is their size on disk. How they are divided follows vLLM: tensor parallel ranks hold equal parts
of every layer, of the embedding and of the output matrix; pipeline stages hold whole layers, the first also the
embedding and the last the output matrix. What ranks hold in full besides is counted where config.json says how large
it is (the router of a mixture of experts, MLA's compressing projection, KV heads when there are more ranks than
heads); norms and other vectors are not, being thousandths of the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from slipway.catalog.quantities import quantity_bytes
from slipway.catalog.records import Architecture, Model

GIB = 2**30

_STORED = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
_ASKED = {"float32": 4.0, "float": 4.0, "half": 2.0, "float16": 2.0, "bfloat16": 2.0}

# Peak of activations in vLLM's profiling run, CUDA graphs included, and what is outside PyTorch (CUDA's context; NCCL's
# buffers from two ranks on). From a public calibration of vLLM 0.19.0 on H100 80 GB: Llama 1.89, Qwen2 2.25, Qwen3
# 2.21, DeepSeek V3 1.93, Qwen3 MoE 2.68 GiB; outside PyTorch 0.27 GiB alone and 2.10 GiB with others. For other
# programs and cards nobody published as much, so the same numbers stand in.
_ACTIVATIONS, _ACTIVATIONS_OF_EXPERTS = 2.25, 2.68
_ALONE, _WITH_OTHERS = 0.27, 2.10


@dataclass(frozen=True)
class Cut:
    """How a model is cut: over so many ranks each layer, in so many groups of layers."""

    tensor: int
    pipeline: int


@dataclass(frozen=True)
class Loading:
    """What a program's arguments say about types.

    Attributes:
        weights: bytes of one number of the weights where they are not quantized on disk; None keeps theirs.
        quantized: weights are brought to one byte while they are loaded (``--quantization=fp8``).
        kv_cache: bytes of one number in the cache; None takes the weights' type.
    """

    weights: float | None = None
    quantized: bool = False
    kv_cache: float | None = None


def loading_of(arguments: Iterable[str], *, model: Model) -> Loading:
    """Read types off arguments of vLLM or SGLang, in a list or in one shell string."""
    said = " ".join(arguments)
    cache = flag_value(said, "--kv-cache-dtype") or "auto"
    quantization = flag_value(said, "--quantization") or ""
    return Loading(
        weights=_ASKED.get(flag_value(said, "--dtype") or ""),
        quantized=quantization == "fp8" and _unquantized(model.architecture),
        kv_cache=1.0 if cache.startswith(("fp8", "int8")) else None,
    )


def flag_value(arguments: str, flag: str) -> str | None:
    """The value that a flag has last, written with ``=`` or a blank; None when it is not there."""
    found = re.findall(rf"(?:^|\s){re.escape(flag)}[=\s]\s*['\"]?([A-Za-z0-9_.+-]+)", arguments)
    return found[-1] if found else None


def _unquantized(architecture: Architecture | None) -> bool:
    return architecture is None or architecture.weight_type in ("float32", "bfloat16", "float16")


def _number_bytes(architecture: Architecture, loading: Loading) -> float:
    """Bytes of one number in memory outside quantized matrices; vLLM brings float32 to 16 bits unless told not to."""
    if not _unquantized(architecture):
        return 2.0
    return loading.weights or min(2.0, _STORED[architecture.weight_type])


def weight_bytes(model: Model, *, cut: Cut, loading: Loading) -> int:
    """What the rank with most of them holds of the weights."""
    size, architecture = quantity_bytes(model.size), model.architecture
    if architecture is None:
        return ceil(size / cut.tensor / cut.pipeline)
    stored = _STORED[architecture.weight_type]
    number = _number_bytes(architecture, loading)
    outside = 4.0 if architecture.weight_type == "float32" else 2.0
    ends = min(size, 2 * architecture.vocabulary * architecture.hidden_size * outside)
    body_number = 1.0 if loading.quantized else number if _unquantized(architecture) else stored
    body = (size - ends) * body_number / stored
    layers = ceil(architecture.layers / cut.pipeline)
    share = body * layers / architecture.layers / cut.tensor
    share += ends * number / outside / cut.tensor / min(2, cut.pipeline)
    return ceil(share + layers * _held_by_all(architecture, cut, body_number, number))


def _held_by_all(architecture: Architecture, cut: Cut, body_number: float, number: float) -> float:
    """What each rank holds of one layer beyond its even share."""
    alone = 1 - 1 / cut.tensor
    hidden = architecture.hidden_size
    more = hidden * (architecture.experts or 0) * number * alone
    if architecture.latent:
        compressed = architecture.latent.rank + architecture.latent.rope_dimension
        return more + hidden * compressed * body_number * alone
    doubled = max(0.0, 1 - architecture.kv_heads / cut.tensor)
    return more + 2 * hidden * architecture.head_dimension * body_number * doubled


def token_bytes(architecture: Architecture, *, cut: Cut, loading: Loading) -> int:
    """What one token of one request takes in the cache of one rank.

    With grouped-query attention keys and values of the rank's heads, at least one: with more ranks than KV heads vLLM
    copies them. With MLA one compressed vector for each layer, held by every rank.
    """
    number = loading.kv_cache or _number_bytes(architecture, loading)
    layers = ceil(architecture.layers / cut.pipeline)
    if architecture.latent:
        numbers = layers * (architecture.latent.rank + architecture.latent.rope_dimension)
    else:
        heads = max(1, ceil(architecture.kv_heads / cut.tensor))
        numbers = 2 * layers * heads * architecture.head_dimension
    return ceil(numbers * number)


def working_bytes(architecture: Architecture | None, *, cut: Cut) -> int:
    """What a rank needs besides weights and cache."""
    experts = bool(architecture and architecture.experts)
    activations = _ACTIVATIONS_OF_EXPERTS if experts else _ACTIVATIONS
    return ceil((activations + (_WITH_OTHERS if cut.tensor > 1 else _ALONE)) * GIB)
