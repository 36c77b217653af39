"""Models: weights, where they come from, and the numbers that decide how much memory serving them takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from slipway.catalog.records.fields import Name, Names, Quantity, Record, Revision, ServedName, Source, Text

Positive = Annotated[int, Field(gt=0)]
ParserName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class LatentAttention(Record):
    """Multi-head latent attention (DeepSeek V2 and later): one compressed vector per token and layer.

    Attributes:
        rank: ``kv_lora_rank`` of config.json.
        rope_dimension: ``qk_rope_head_dim``.
    """

    rank: Positive
    rope_dimension: Positive


class Architecture(Record):
    """What a model's config.json says about its shape; the source of every number in a sizing.

    Attributes:
        layers: ``num_hidden_layers``.
        hidden_size, vocabulary: ``hidden_size`` and ``vocab_size``.
        attention_heads, kv_heads: ``num_attention_heads`` and ``num_key_value_heads``.
        head_dimension: ``head_dim``, or hidden size over attention heads where config.json has none.
        latent: set for MLA, whose cache is not per head: each tensor parallel rank holds all of it.
        weight_type: how the weights lie on disk and, unless quantized while loading, in memory.
        experts: ``num_experts`` or ``n_routed_experts`` of a mixture of experts.
    """

    layers: Positive
    hidden_size: Positive
    vocabulary: Positive
    attention_heads: Positive
    kv_heads: Positive
    head_dimension: Positive
    latent: LatentAttention | None = None
    weight_type: Literal["float32", "bfloat16", "float16", "fp8", "int8", "int4"] = "bfloat16"
    experts: Positive | None = None


class Model(Record):
    """Weights with a name, a size and one or more sources.

    Attributes:
        id: the name that the hub knows it by (``Qwen/Qwen3-0.6B``); MODEL_ID in templates. The name when None.
        sources: where the weights are, the preferred one first.
        size: bytes on disk, as a Kubernetes quantity; what a volume must at least hold.
        parameters, active_parameters: all, and those that one token uses (mixture of experts).
        architecture: None for what is not a transformer language model; then only the weights are sized.
        context_length: the longest context in tokens that the weights were made for.
        served_name: the name that clients put into their requests, unless the endpoint names another.
        tool_call_parser, reasoning_parser: what vLLM calls the model's format, where it has one; templates for
            other programs translate it.
        random_words: the weights are a stand-in whose words mean nothing; people are told so.
    """

    name: Name
    id: Annotated[ServedName, Field(max_length=128)] | None = None
    display_name: Names = {}
    vendor: Names = {}
    sources: list[Source] = Field(min_length=1)
    revision: Revision | None = None
    served_name: ServedName
    size: Quantity
    parameters: Positive
    active_parameters: Positive | None = None
    architecture: Architecture | None = None
    context_length: Positive
    tool_call_parser: ParserName | None = None
    reasoning_parser: ParserName | None = None
    license: Text
    random_words: bool = False
