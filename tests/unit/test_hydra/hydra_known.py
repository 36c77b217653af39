"""What the tests of Hydra's documents share: the documents, Go as a function, and one set of variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCUMENTS = Path(__file__).resolve().parents[2] / "data" / "hydra"

# A template and its variables to what Go makes of it: {"text": …} or {"error": …}.
Go = Callable[[str, dict[str, Any]], dict[str, str]]

VALUES: dict[str, Any] = {
    "RUN_TIME": "vllm-cpu",
    "MODEL_NAME": "qwen3",
    "MODEL_ID": "Qwen/Qwen3-0.6B",
    "MODEL_PATH": "/data/serving-model",
    "CLUSTER": "work",
    "NAMESPACE": "models",
    "IS_DISTRIBUTED": False,
    "IS_LEADER": False,
    "TP_SIZE": 1,
    "PP_SIZE": 1,
    "MODEL_HOST": "0.0.0.0",
    "MODEL_PORT": 8000,
    "RAY_PORT": 6379,
    "CUSTOM_ARGS": [],
}
