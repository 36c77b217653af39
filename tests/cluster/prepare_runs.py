"""Runs of `slipway prepare` against a catalog, packages and a history of the test's own."""

from __future__ import annotations

import base64
import gzip
import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import make_url

from sandbox import gobuild
from sandbox.settings import Settings
from slipway.cli import main
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref
from slipway.cluster.transport import Request
from slipway.prepare.helm_release import releases
from slipway.releases.database import Database
from slipway.releases.preparations import PreparationRecord, Preparations

PROJECT = Path(__file__).resolve().parents[2]
CHART = PROJECT / "tests" / "data" / "charts" / "small"


@dataclass
class Seen:
    """What a run said and how it ended."""

    status: int
    printed: str
    plan: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass
class Prepare:
    """A cluster's record to change, and `slipway prepare` over it."""

    directory: Path
    kubeconfig: Path
    config: Settings
    cluster: Cluster
    image: str
    prefix: str = field(default_factory=lambda: f"slipway-test-{secrets.token_hex(3)}")
    given: list[Ref] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay out the catalog and the packages."""
        shutil.copytree(PROJECT / "include", self.directory / "include")
        for file in (self.directory / "include" / "catalog" / "endpoints").glob("*.yaml"):
            if file.stem not in ("qwen3-tiny", "qwen3-tiny-keys"):
                file.unlink()  # each run reads them all; these name every Secret of the sandbox's
        self.packages.mkdir()
        for version in ("0.1.0", "0.2.0"):
            self._package(version)

    @property
    def packages(self) -> Path:
        """The directory of offline packages."""
        return self.directory / "packages"

    def record(self, **changes: Any) -> None:
        """Set the sandbox cluster's record, which of itself asks for nothing to be made."""
        original = yaml.safe_load(
            (PROJECT / "include/catalog/clusters/sandbox.yaml").read_text(encoding="utf-8")
        )
        bare = {key: value for key, value in original.items() if key not in ("setup", "gateway")}
        path = self.directory / "include" / "catalog" / "clusters" / "sandbox.yaml"
        path.write_text(yaml.safe_dump({**bare, **changes}), encoding="utf-8")

    def chart(
        self, *, namespace: str, version: str = "0.1.0", timeout_seconds: int = 120, **values: Any
    ) -> dict[str, Any]:
        """The small chart, with an image that the node has."""
        name, _, tag = self.image.partition(":")
        host, _, repository = name.partition("/")
        image = {"registry": host, "repository": repository, "tag": tag}
        return {
            "name": "small",
            "namespace": namespace,
            "chart": "small",
            "version": version,
            "package": f"small-{version}.tgz",
            "timeout_seconds": timeout_seconds,
            "values": {"image": image, **values},
        }

    def run(self, *arguments: str, output: str = "json", **how: Any) -> Seen:
        """Run to the end, in this process."""
        printed, said = StringIO(), StringIO()
        call, environment = self._call(*arguments, output=output, **how)
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            with redirect_stdout(printed), redirect_stderr(said):
                status = main(call)
        finally:
            os.environ.clear()
            os.environ.update(before)
        seen = Seen(status=status, printed=printed.getvalue() + said.getvalue())
        if output == "json" and printed.getvalue().lstrip().startswith("{"):
            content = json.loads(printed.getvalue())
            seen.plan, seen.failures = content["plan"], content["failures"]
        return seen

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start a run in a process group of its own."""
        call, environment = self._call(*arguments, output="table")
        with subprocess.Popen(
            [sys.executable, "-m", "slipway.cli", *call],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            yield process

    def _call(
        self,
        *arguments: str,
        output: str,
        kubeconfig: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> tuple[list[str], dict[str, str]]:
        connection = {"conn_type": "generic", "login": "me", "password": "hush-hush"}
        own = {
            "SLIPWAY_HELM": str(gobuild.program(self.config, gobuild.HELM, "helm")),
            "SLIPWAY_PACKAGES": str(self.packages),
            "SLIPWAY_DATABASE_URL": self.database,
            "AIRFLOW_CONN_TEST_KEYS": json.dumps(connection),
        }
        place = ["--kubeconfig", str(kubeconfig or self.kubeconfig), "--output", output]
        call = ["--include", str(self.directory / "include"), "prepare", "sandbox", *place, *arguments]
        return call, {**own, **(environment or {})}

    @property
    def database(self) -> str:
        """The history of these runs."""
        return f"sqlite:///{self.directory}/history.db"

    def history(self) -> Sequence[PreparationRecord]:
        """What these runs left in it."""
        return Preparations(Database(make_url(self.database))).list()

    def bundle(self, *definitions: Object) -> None:
        """Put definitions into a package."""
        content = yaml.safe_dump_all(definitions).encode()
        with tarfile.open(self.packages / "bundle.tgz", "w:gz") as archive:
            member = tarfile.TarInfo("gateway-api/config/crd/standard/all.yaml")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))

    def gateway_api(self) -> None:
        """Put the Gateway API's own files into a package, from its Go module."""
        module = gobuild.module_directory(self.config, pinned_in="crds", module="sigs.k8s.io/gateway-api")
        (self.packages / "gateway-api").mkdir()
        for file in (module / "config/crd/standard").glob("*.yaml"):
            (self.packages / "gateway-api" / file.name).write_bytes(file.read_bytes())

    def somebody(self) -> tuple[str, Path]:
        """A user without any right, and their kubeconfig: a ServiceAccount's token."""
        name = f"{self.prefix}-user"
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": "default"},
        }
        self.cluster.apply(account)
        self.given.append(Ref(apiVersion="v1", kind="ServiceAccount", namespace="default", name=name))
        path = f"/api/v1/namespaces/default/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = self.cluster.send(Request(method="POST", path=path, what="make a token", body=body))
        content = yaml.safe_load(self.kubeconfig.read_text(encoding="utf-8"))
        for one in content["users"]:
            one["user"] = {"token": answer.json()["status"]["token"]}
        own = self.directory / "somebody.conf"
        own.write_text(yaml.safe_dump(content), encoding="utf-8")
        return f"system:serviceaccount:default:{name}", own

    def give(self, role: Object, *, user: str) -> None:
        """Apply a role and bind it to a user."""
        binding = {
            **role,
            "kind": f"{role['kind']}Binding",
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": role["kind"],
                "name": role["metadata"]["name"],
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        for one in (role, {key: value for key, value in binding.items() if key != "rules"}):
            self.cluster.apply(one, force=True)
            named = {key: one["metadata"].get(key) for key in ("namespace", "name")}
            self.given.append(Ref(apiVersion=one["apiVersion"], kind=one["kind"], **named))

    # -- what Helm keeps

    def helm_status(self, namespace: str) -> str | None:
        """The status of the newest revision; None where there is none."""
        known = releases(self.cluster, namespace=namespace, name="small")
        return known[0].status if known else None

    def release_secrets(self, namespace: str) -> list[Object]:
        """Helm's own records of the release."""
        labels = {"owner": "helm", "name": "small"}
        return self.cluster.list(api_version="v1", kind="Secret", namespace=namespace, labels=labels)

    def set_release(self, secret: Object, *, status: str, ours: bool, revision: int | None = None) -> None:
        """Write a revision as an interrupted helm leaves it."""
        content = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
        content["info"]["status"] = status
        labels = {**secret["metadata"]["labels"], "status": status}
        if not ours:
            labels.pop("slipway.io/prepared", None)
        metadata = {"namespace": secret["metadata"]["namespace"], "name": secret["metadata"]["name"]}
        if revision is not None:
            content["version"], labels["version"] = revision, str(revision)
            metadata["name"] = f"sh.helm.release.v1.small.v{revision}"
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
        written = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": secret["type"],
            "metadata": {**metadata, "labels": labels},
            "data": {"release": packed},
        }
        if revision is None:
            self.cluster.replace(written)
        else:
            self.cluster.create(written)

    def pending_upgrade(self, namespace: str) -> None:
        """Leave what a helm leaves that was killed while it upgraded: a pending revision beside the deployed one."""
        (secret,) = self.release_secrets(namespace)
        self.set_release(secret, status="pending-upgrade", ours=True, revision=2)

    def _package(self, version: str) -> None:
        with tarfile.open(self.packages / f"small-{version}.tgz", "w:gz") as archive:
            for file in sorted(path for path in CHART.rglob("*") if path.is_file()):
                content = file.read_bytes().replace(b"version: 0.1.0", f"version: {version}".encode())
                member = tarfile.TarInfo(f"small/{file.relative_to(CHART)}")
                member.size = len(content)
                archive.addfile(member, BytesIO(content))
