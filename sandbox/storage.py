"""Volumes: local-path-provisioner makes a directory for each claim.

Storage class `local-path` (default) is ReadWriteOnce on this node; `shared` is ReadWriteMany and stands in for a
network file system, which needs a kernel client that not every machine has.
"""

from __future__ import annotations

import json

from sandbox import gobuild, settings
from sandbox.settings import NODE_NAME, Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write


def program(config: Settings, *, helper_image: str) -> Program:
    """The provisioner, which runs a pod of `helper_image` to make and to delete each directory."""
    volumes = config.home / "volumes"
    paths = {
        "storageClassConfigs": {
            "local-path": {
                "nodePathMap": [
                    {"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(volumes / "local")]}
                ]
            },
            "shared": {"sharedFileSystemPath": str(volumes / "shared")},
        }
    }
    config_file = config.kubeconfigs / "local-path.json"
    helper = config.kubeconfigs / "local-path-helper.yaml"
    write(config_file, json.dumps(paths, indent=2))
    write(helper, render("templates/helper-pod.yaml.j2", image=helper_image, node=NODE_NAME))
    command = [
        str(gobuild.program(config, gobuild.LOCAL_PATH, "local-path-provisioner")),
        "start",
        f"--config={config_file}",
        f"--helper-pod-file={helper}",
        f"--helper-image={helper_image}",
        f"--kubeconfig={config.kubeconfigs}/local-path-provisioner.conf",
        f"--namespace={settings.SYSTEM_NAMESPACE}",
    ]
    return Program(name="local-path-provisioner", command=command, files=[config_file, helper], priority=50)
