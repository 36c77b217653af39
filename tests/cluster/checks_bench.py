"""A cluster to break: what the tests of real faults make and type, and how all of it is put back."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox import gobuild
from sandbox.settings import load
from slipway.catalog.read import read_catalog
from slipway.catalog.records import Accelerator
from slipway.checks.plan import site_of
from slipway.checks.subject import Site, Subject
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Ref, ref_of

PROJECT = Path(__file__).resolve().parents[2]


@dataclass
class Bench:
    """A cluster to break: a namespace and a cluster record of the test's own, and everything is put back at the end.

    Attributes:
        cluster: as an administrator, who makes and breaks.
        slipway: as Slipway, which looks.
    """

    cluster: Cluster
    slipway: Cluster
    namespace: str
    image: str
    include: Path
    kubeconfig: Path
    left: contextlib.ExitStack

    @property
    def node(self) -> str:
        return str(self.cluster.list(api_version="v1", kind="Node")[0]["metadata"]["name"])

    def make(self, api_version: str, kind: str, name: str, **more: Any) -> Ref:
        """Make an object; it goes at the end. In the namespace, unless ``cluster_wide``."""
        place = {} if more.pop("cluster_wide", False) else {"namespace": self.namespace}
        metadata = {"name": name, **place, "labels": more.pop("labels", {})}
        made = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}
        self.cluster.create(made)
        ref = ref_of(made)
        self.left.callback(lambda: self.cluster.delete(ref))
        return ref

    def run(self, command: str, *, files: tuple[Path, Path] | None = None) -> str:
        """Type a command, with what a person would have to fill in."""
        line, _, text = command.replace("…", "hunter2").partition("\n")
        if files:
            line = line.replace("--cert=FILE", f"--cert={files[0]}").replace(
                "--key=FILE", f"--key={files[1]}"
            )
        helm = gobuild.program(load(), gobuild.HELM, "helm").parent
        programs = f"{self.kubeconfig.parents[1] / 'bin'}:{PROJECT / '.venv/bin'}:{helm}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": programs,
            "KUBECONFIG": str(self.kubeconfig),
            "SLIPWAY_INCLUDE": str(self.include),
        }
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            input=text,
            text=True,
            env=environment,
            capture_output=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout

    def subject(self, **more: Any) -> Subject:
        return Subject.model_validate(
            {
                "endpoint": "one",
                "namespace": self.namespace,
                "images": (self.image,),
                "tools_image": self.image,
                "requests": {"cpu": "10m", "memory": "32Mi"},
                **more,
            }
        )

    def site(self, *endpoints: Subject, devices: tuple[Accelerator, ...] = (), **record: Any) -> Site:
        """A site whose cluster record is in a catalog, so that `slipway render --cluster scratch` has it too."""
        whole = {
            "name": "scratch",
            "connection": "scratch",
            "registry": "localhost/slipway",
            "storage": {"storage_class": "local-path", "access_mode": "ReadWriteOnce"},
            "accelerators": {"cpu": {}},
            **record,
        }
        path = self.include / "catalog" / "clusters" / "scratch.yaml"
        path.write_text(yaml.safe_dump(whole), encoding="utf-8")
        site = site_of(read_catalog(self.include), "scratch", include=self.include)
        return site.model_copy(update={"endpoints": endpoints, "devices": devices or site.devices})
