"""From a plan to what its checks look for."""

from __future__ import annotations

from slipway.checks.subject import SecretNeed, Storage, Subject
from slipway.manifests.plan import Plan
from slipway.manifests.render import ENDPOINT_LABEL


def subject_of(plan: Plan) -> Subject:
    """Say what a deployment of this plan needs from its cluster.

    The serving pods that are there now make room first: a release is replaced in place.
    """
    secrets = []
    if plan.api_key is not None:
        secrets.append(SecretNeed(name=plan.api_key.secret, keys=(plan.api_key.key,)))
    if plan.weights.object_store is not None:
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        secrets.append(SecretNeed(name=plan.weights.object_store.secret, keys=keys))
    secrets += [SecretNeed(name=name) for name in plan.image_pull_secrets]
    return Subject.model_validate(
        {
            "namespace": plan.namespace,
            "storage": Storage(
                claim=plan.volume.claim,
                storage_class=plan.volume.storage_class,
                access_mode=plan.volume.access_mode,
                size=plan.volume.size,
            ),
            "images": (plan.server.image, plan.tools_image),
            "pull_policy": plan.image_pull_policy,
            "requests": plan.server.requests,
            "replicas": plan.replicas,
            "node_selector": plan.server.node_selector,
            "tolerations": tuple(plan.server.tolerations),
            "secrets": tuple(secrets),
            "replaced": {ENDPOINT_LABEL: plan.object_name, "app.kubernetes.io/component": "server"},
        }
    )
