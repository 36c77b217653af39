"""Imports what a server and the benchmark client import, so that its bytecode is in the image."""

from __future__ import annotations

import importlib

# The processes of a server (API, engine, worker), what they load by name, and the benchmark client.
MODULES = (
    "vllm.entrypoints.openai.api_server",
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.cli.serve",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.model_loader",
    "vllm.benchmarks.serve",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.qwen3.configuration_qwen3",
)


def main() -> None:
    """Import them all; one that has moved in another version of vLLM ends the build."""
    for module in MODULES:
        importlib.import_module(module)


if __name__ == "__main__":
    main()
