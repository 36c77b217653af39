"""A Kubernetes API, ours or one that a person named, through kubectl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox import commands
from sandbox.errors import USER_MISTAKE, SandboxError
from sandbox.settings import FIELD_MANAGER, FILES
from sandbox.templating import render


@dataclass(frozen=True)
class Cluster:
    """kubectl and whom it speaks as."""

    kubectl_path: Path
    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and give back its standard output."""
        command = [str(self.kubectl_path), f"--kubeconfig={self.kubeconfig}", *words]
        return commands.run(command, stdin=stdin, check=check)

    def require_reachable(self) -> None:
        """Fail with one line when the cluster does not answer or does not accept whom we speak as.

        Raises:
            SandboxError: names the kubeconfig.
        """
        try:
            self.kubectl("version", "--request-timeout=10s")
        except SandboxError as error:
            raise SandboxError(
                f"the cluster of {self.kubeconfig} does not answer: {error}; check SLIPWAY_KUBECONFIG",
                status=USER_MISTAKE,
            ) from None

    def apply(self, manifests: str) -> None:
        """Server-side apply, taking over fields that others hold: what stands in the file is what shall be."""
        options = ["--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}"]
        self.kubectl("apply", *options, "-f", "-", stdin=manifests)

    def apply_files(self, directories: Sequence[str], **values: object) -> None:
        """Apply every YAML file of these folders below `sandbox/`, rendered with `values`, in one call.

        One call lets kubectl read the API's description once, and order does not matter but for namespaces, which
        come first by their files' names.
        """
        files = [file for directory in directories for file in sorted((FILES / directory).glob("*.yaml"))]
        self.apply("\n---\n".join(render(str(file.relative_to(FILES)), **values) for file in files))

    def has_secret(self, namespace: str, name: str) -> bool:
        """Whether there is such a Secret."""
        return bool(
            self.kubectl("-n", namespace, "get", "secret", name, "--ignore-not-found", "-o", "name").strip()
        )

    def apply_secret(self, namespace: str, name: str, data: dict[str, str], *, kind: str = "Opaque") -> None:
        """Create or update a Secret; its values go through standard input, never through arguments."""
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": kind,
            "metadata": {"name": name, "namespace": namespace},
            "stringData": data,
        }
        self.apply(json.dumps(secret))
