"""The program `helm`: found, run as the cluster's connection, and its errors in one line."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slipway.cluster.client import Cluster
from slipway.cluster.kubeconfig import kubeconfig_file
from slipway.cluster.redact import redact
from slipway.cluster.transport import Request
from slipway.errors import ClusterError, UsageError
from slipway.prepare.refusals import missing_rule

HELM_VARIABLE = "SLIPWAY_HELM"
_QUICK_SECONDS = 120
_PASSED_ON = (
    "PATH",
    "HOME",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)


class HelmError(ClusterError):
    """What helm could not do, in its own words."""


# What helm says, and what it means for whoever reads it.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (
        r"not found in .* repository|no chart version found|: not found$|could not find|failed to fetch|"
        r"cannot be reached|no such host|failed to download|does not appear to be a valid|connection refused|"
        r"unexpected status from|i/o timeout",
        "the chart cannot be had",
        "Check chart, repository and version in the cluster's record; without access to the repository, put the "
        "chart's .tgz into the packages directory and name it in `package`",
    ),
    (
        r"invalid ownership metadata|cannot be imported into the current release",
        "something of the chart is there already, and not this release's",
        "Remove it, or give it to the release: kubectl annotate … meta.helm.sh/release-name=NAME "
        "meta.helm.sh/release-namespace=NAMESPACE and label … app.kubernetes.io/managed-by=Helm",
    ),
    (
        r"timed out waiting|context deadline exceeded|client rate limiter|stalled|not ready",
        "what the chart made did not become ready in time, and was taken back",
        "Look at its pods while the next try runs: kubectl get pods,events; or raise timeout_seconds",
    ),
)


def helm_program() -> str:
    """Return the program.

    Raises:
        UsageError: it is not installed, in one line that says where to put it.
    """
    named = os.environ.get(HELM_VARIABLE)
    found = shutil.which(named or "helm")
    if found is None:
        raise UsageError(
            "helm is not installed",
            about=named or "helm",
            why=f"it is not {'there' if named else 'on PATH'}",
            remedy=f"Install Helm 3.13 or newer where this runs (Airflow's workers), or name it in {HELM_VARIABLE}",
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Helm:
    """helm with a kubeconfig and directories of its own: what a person's helm knows plays no part."""

    program: str
    kubeconfig: Path
    directory: Path

    def run(self, *arguments: str, seconds: float = _QUICK_SECONDS, about: str) -> str:
        """Run helm and return what it prints.

        Raises:
            HelmError: it failed, or took longer than that.
        """
        command = [self.program, "--kubeconfig", str(self.kubeconfig), *arguments]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self._environment(),
            preexec_fn=_end_with_parent(),
        )
        try:
            printed, complaint = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            why = f"{seconds:.0f} s are over"
            raise HelmError("helm takes too long and was asked to end", about=about, why=why) from None
        except BaseException:
            # helm takes back what it began when it is asked to end; whoever waited for it has no time for that.
            process.terminate()
            raise
        if process.returncode != 0:
            raise _failure(complaint, about=about)
        return printed

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        places = {
            f"HELM_{one}_HOME": str(self.directory / one.lower()) for one in ("CACHE", "CONFIG", "DATA")
        }
        return {**kept, **places}

    def values_file(self, values: Mapping[str, Any]) -> str:
        """Write values to a file of its own, readable by its owner alone, and return the path."""
        handle, path = tempfile.mkstemp(dir=self.directory, suffix=".yaml")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yaml.safe_dump(dict(values), file, sort_keys=True)
        return path


@contextmanager
def helm_for(cluster: Cluster) -> Iterator[Helm]:
    """Open helm for a cluster.

    Raises:
        UsageError: it is not installed.
    """
    program = helm_program()
    with (
        kubeconfig_file(cluster) as kubeconfig,
        tempfile.TemporaryDirectory(prefix="slipway-helm-") as directory,
    ):
        yield Helm(program=program, kubeconfig=kubeconfig, directory=Path(directory))


def capabilities(cluster: Cluster) -> list[str]:
    """Return what a chart may ask of the cluster, as arguments of ``helm template``: version, and kinds of its APIs.

    helm could ask itself, but refuses to render what has kinds whose definitions come with the same chart.
    """
    groups = _get(cluster, "/apis").get("groups") or []
    versions = [one["groupVersion"] for group in groups for one in group.get("versions") or []]
    kinds: list[str] = []
    for version in sorted(versions):
        resources = _get(cluster, f"/apis/{version}").get("resources") or []
        kinds += [
            version,
            *sorted({f"{version}/{one['kind']}" for one in resources if "/" not in one["name"]}),
        ]
    return [
        "--kube-version",
        cluster.version(),
        *(part for kind in kinds for part in ("--api-versions", kind)),
    ]


def _get(cluster: Cluster, path: str) -> dict[str, Any]:
    request = Request(
        method="GET", path=path, what="read the kinds that the cluster has", accept=frozenset({404})
    )
    answer = cluster.send(request)
    return {} if answer.status == 404 else dict(answer.json())


def _failure(complaint: str, *, about: str) -> HelmError:
    lines = [
        line for line in complaint.splitlines() if line.strip() and not line.startswith(("WARNING", "level="))
    ]
    told = redact(" ".join(lines).removeprefix("Error: "))
    if rule := missing_rule(told):
        return HelmError("helm may not do what the chart needs", about=about, why=told, remedy=rule)
    for pattern, what, remedy in _MEANINGS:
        if re.search(pattern, told):
            return HelmError(what, about=about, why=told, remedy=remedy)
    return HelmError("helm failed", about=about, why=told or "it said nothing")


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> Any:
    """Return what lets the kernel end helm when whoever started it is killed; else two would work at one release."""
    if not Path("/proc/self").exists():
        return None  # not Linux
    libc = _libc()
    death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
    return lambda: libc.prctl(death_signal, signal.SIGTERM)
