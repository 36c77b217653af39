"""A pending release's values, for tests and for the processes that they start."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

OBJECTS = b'{"release": "0123456789ab", "stages": {}}'


def pending_values(**changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "endpoint": "qwen3-tiny",
        "run_id": f"deploy_endpoint/{uuid.uuid4()}",
        "cluster": "sandbox",
        "namespace": "models",
        "plan": {"replicas": 1, "endpoint": "qwen3-tiny"},
        "overrides": {"replicas": 1},
        "objects": OBJECTS,
        "label": "0123456789ab",
        "images": ["localhost/slipway/vllm-cpu:0123"],
        "weights_source": "s3://models/qwen3-tiny",
        "reason": "a test",
        "actor": "ada",
        **changed,
    }
    return {"digest": hashlib.sha256(values["objects"]).hexdigest(), **values}
