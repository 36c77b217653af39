"""What runs in an endpoint's serving pods: the image, the processes, and everything around them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from slipway.catalog.names import object_name
from slipway.catalog.records import BuiltImage
from slipway.manifests.arguments import Filled, fill, merge_arguments
from slipway.manifests.devices import PodDevices, devices_for
from slipway.manifests.mirror import mirrored
from slipway.manifests.overrides import Overrides
from slipway.manifests.plan import MODEL_PATH, CompileCache, Process, Server
from slipway.manifests.records import Images, Records
from slipway.manifests.sizing import startup_budget_seconds

RAY_PORT = 6379
KEYS_FILE = "/run/slipway/keys.yaml"


def server_for(records: Records, overrides: Overrides, images: Images, *, context_length: int) -> Server:
    """Make a plan's server: the leader's process, its workers', and the pod that the device and the runtime ask for."""
    endpoint, runtime, cluster = records.endpoint, records.runtime, records.cluster
    devices = devices_for(endpoint, records.device, program=runtime.program)
    image = _image(records, overrides, images)
    leader, *workers = processes_for(records, overrides, context_length=context_length)
    return Server(
        task=runtime.task,
        tool_calls=any("tool-call-parser" in word for word in (*leader.command, *leader.args)),
        image=image,
        command=leader.command,
        args=leader.args,
        worker=Process(command=workers[0].command, args=workers[0].args) if workers else None,
        env={**runtime.env, **devices.env, **endpoint.env},
        pod_env=dict(runtime.pod_env),
        api_key_env=runtime.api_key_env,
        keys_file=KEYS_FILE if endpoint.api_key and endpoint.api_key.accepted else None,
        port=runtime.port,
        ports=dict(runtime.ports),
        model_path=MODEL_PATH,
        health_path=runtime.health_path,
        health_port=runtime.health_port or "http",
        metrics_path=runtime.metrics_path,
        metrics_port=runtime.metrics_port or "http",
        running_metric=runtime.running_metric if runtime.metrics_path else None,
        startup_seconds=startup_budget_seconds(model=records.model, runtime=runtime, storage=cluster.storage),
        drain_seconds=runtime.drain_seconds,
        shared_memory=endpoint.shared_memory or runtime.shared_memory,
        scratch=runtime.scratch,
        compile_cache=_compile_cache(records, image),
        user=runtime.user,
        read_only_root=runtime.read_only_root,
        requests=devices.requests,
        limits=devices.limits,
        labels={**cluster.pod_labels, **devices.labels},
        annotations={**cluster.pod_annotations, **devices.annotations},
        node_selector={**devices.node_selector, **endpoint.placement.node_selector},
        node_affinity={**devices.node_affinity, **endpoint.placement.node_affinity},
        tolerations=[*devices.tolerations, *endpoint.placement.tolerations],
        runtime_class=devices.runtime_class,
        placement=endpoint.placement,
        init_containers=list(runtime.init_containers),
        volumes=[*runtime.volumes, *devices.volumes],
        volume_mounts=[*runtime.volume_mounts, *devices.volume_mounts],
        pod_security_context=runtime.pod_security_context,
        security_context=runtime.security_context,
    )


def processes_for(records: Records, overrides: Overrides, *, context_length: int) -> list[Filled]:
    """What the serving pod runs; for several pods a replica what the leader runs and what its workers do."""
    endpoint, runtime = records.endpoint, records.runtime
    devices: PodDevices = devices_for(endpoint, records.device, program=runtime.program)
    custom = merge_arguments(devices.args, _cross_origin(records), endpoint.args, overrides.args)
    distributed = endpoint.parallel.pods > 1
    keys = _keys_argument(records)
    variables = _variables(records, context_length=context_length)
    return [
        fill(
            runtime,
            {**variables, "IS_DISTRIBUTED": distributed, "IS_LEADER": leader},
            custom_args=[*custom, *(keys if leader else [])],
        )
        for leader in ([True, False] if distributed else [True])
    ]


def _keys_argument(records: Records) -> list[str]:
    """What makes the program read the API keys that it accepts from a file; two words, as vLLM looks for the first."""
    key, program = records.endpoint.api_key, records.program
    if key is None or key.accepted is None or program is None or program.keys_file is None:
        return []
    return [program.keys_file.flag, KEYS_FILE]


def _cross_origin(records: Records) -> list[str]:
    """What makes the program answer a browser that asks whether it may call, unless the Gateway does."""
    route, gateway, program = records.endpoint.exposure.route, records.cluster.gateway, records.program
    if not (route and route.allow_origin and gateway and program and program.cross_origin):
        return []
    return [] if gateway.cors_filter else [program.cross_origin.replace("{origin}", route.allow_origin)]


def _variables(records: Records, *, context_length: int) -> dict[str, Any]:
    endpoint, model, runtime = records.endpoint, records.model, records.runtime
    cards = max(1, endpoint.cards) * endpoint.parallel.pods
    return {
        "RUN_TIME": runtime.name,
        "MODEL_NAME": records.served_name,
        "MODEL_ID": model.id or model.name,
        "MODEL_PATH": MODEL_PATH,
        "CLUSTER": endpoint.cluster,
        "NAMESPACE": endpoint.namespace,
        "TP_SIZE": endpoint.parallel.tensor or max(1, cards // endpoint.parallel.pipeline),
        "PP_SIZE": endpoint.parallel.pipeline,
        "MODEL_HOST": "0.0.0.0",  # noqa: S104 - inside a pod, which has one address
        "MODEL_PORT": runtime.port,
        "RAY_PORT": RAY_PORT,
        "CONTEXT_LENGTH": context_length,
        "NODES": endpoint.parallel.pods,
        "MEMORY_UTILIZATION": f"{endpoint.memory_utilization:g}",
        "TOOL_CALL_PARSER": model.tool_call_parser,
        "REASONING_PARSER": model.reasoning_parser,
    }


def _image(records: Records, overrides: Overrides, images: Images) -> str:
    cluster = records.cluster
    if overrides.image:
        return overrides.image
    image = records.runtime.images[records.device.kind]
    if isinstance(image, BuiltImage):
        return images.reference(image.built, cluster=cluster)
    return mirrored(image, cluster)


def _compile_cache(records: Records, image: str) -> CompileCache | None:
    endpoint, runtime = records.endpoint, records.runtime
    if endpoint.compile_cache is None or runtime.compile_cache is None:
        return None
    depends_on = [records.model.name, image, records.device.name, endpoint.parallel.model_dump(mode="json")]
    key = hashlib.sha256(json.dumps([*depends_on, endpoint.cards], sort_keys=True).encode()).hexdigest()[:12]
    return CompileCache(
        claim=f"{object_name(endpoint.name)}-compile-cache",
        size=endpoint.compile_cache,
        storage_class=records.cluster.storage.storage_class,
        access_mode=records.cluster.storage.access_mode,
        mount=runtime.compile_cache,
        path=key,
    )
