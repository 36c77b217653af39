"""What `slipway diff` says of a real cluster: new, the same, changed by hand, and what a deployment would delete."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree

import pytest
import yaml

from slipway.catalog.read import include_directory, read_catalog
from slipway.cli import main
from slipway.cluster.apply import apply
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Ref
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered, render
from slipway.releases.inventory import inventory_object
from slipway.releases.records import Release

NAME = "qwen3-tiny"


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


@pytest.fixture
def include(tmp_path: Path, namespace: str) -> Path:
    """The project's include directory with the endpoint in the test's namespace, without pods."""
    copy = Path(copytree(include_directory(), tmp_path / "include"))
    path = copy / "catalog" / "endpoints" / f"{NAME}.yaml"
    record = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**record, "namespace": namespace, "replicas": 0}), encoding="utf-8")
    return copy


@pytest.fixture
def rendered(include: Path) -> Rendered:
    """What a deployment of the endpoint would apply."""
    return render(make_plan(read_catalog(include), NAME, include=include), include=include)


@pytest.fixture
def diff(
    include: Path, slipway_kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run the command with Slipway's own rights; returns its status and what it printed."""

    def run(*arguments: str, kubeconfig: Path = slipway_kubeconfig) -> tuple[int, str]:
        given = ["--include", str(include), "diff", NAME, "--kubeconfig", str(kubeconfig), *arguments]
        status = main(given)
        streams = capsys.readouterr()
        return status, streams.out + streams.err

    return run


def test_an_endpoint_that_was_never_deployed_is_all_new(
    diff: Callable[..., tuple[int, str]], rendered: Rendered, cluster: Cluster, namespace: str
) -> None:
    status, text = diff()

    assert status == 1
    assert text.count("+++ deployment: ") == len(rendered.objects())
    assert cluster.list(api_version="v1", kind="Service", namespace=namespace) == [], "nothing was made"


def test_what_was_just_deployed_has_no_difference(
    diff: Callable[..., tuple[int, str]], rendered: Rendered, cluster: Cluster
) -> None:
    apply(cluster, rendered.objects())

    assert diff() == (0, "no difference\n")


def test_a_port_keeps_the_name_of_before_slipway_but_a_name_by_hand_is_a_difference(
    diff: Callable[..., tuple[int, str]],
    cluster: Cluster,
    administrator: Cluster,
    include: Path,
    namespace: str,
) -> None:
    plan = make_plan(read_catalog(include), NAME, include=include)
    apply(
        cluster, render(plan.model_copy(update={"port_names": {NAME: "serving"}}), include=include).objects()
    )
    assert diff() == (0, "no difference\n")

    service = Ref(apiVersion="v1", kind="Service", namespace=namespace, name=NAME)
    administrator.patch(service, {"spec": {"ports": [{"port": 8000, "name": "web"}]}}, manager="kubectl-edit")

    status, text = diff()
    assert status == 3 and 'is held by "kubectl-edit"' in text


def test_a_change_by_an_override_or_by_hand_is_what_the_diff_shows(
    diff: Callable[..., tuple[int, str]],
    rendered: Rendered,
    cluster: Cluster,
    administrator: Cluster,
    namespace: str,
) -> None:
    apply(cluster, rendered.objects())
    service = Ref(apiVersion="v1", kind="Service", namespace=namespace, name=NAME)
    administrator.patch(
        service, {"metadata": {"labels": {"slipway.io/model": "by-hand"}}}, manager="somebody"
    )

    status, text = diff("--overrides", '{"args": ["--max-num-seqs=4"]}')

    assert status == 3 and 'is held by "somebody"' in text, "a deployment would stop at that conflict"
    assert "+++ deployment: StatefulSet" in text and "--max-num-seqs=4" in text
    assert "+++ deployment: PersistentVolumeClaim" not in text
    assert "managedFields" not in text and "resourceVersion" not in text


def test_what_the_last_good_release_had_and_the_next_has_not_would_be_deleted(
    diff: Callable[..., tuple[int, str]], rendered: Rendered, cluster: Cluster, namespace: str
) -> None:
    apply(cluster, rendered.objects())
    cluster.apply(inventory_object(good_release(rendered, namespace)))

    status, text = diff("--overrides", '{"args": ["--max-num-seqs=4"]}')

    assert status == 1
    deleted = [line for line in text.splitlines() if "would be deleted" in line]
    service = f"# Service {namespace}/{NAME}-r-{rendered.release[:8]}: "
    assert deleted == [f"{service}would be deleted when the deployment is proven"]


def test_a_namespace_that_is_not_there_makes_all_of_it_new(
    diff: Callable[..., tuple[int, str]], include: Path, kubeconfig: Path
) -> None:
    # As a person who may look anywhere: nobody has rights yet in a namespace that is not there.
    path = include / "catalog" / "endpoints" / f"{NAME}.yaml"
    record = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**record, "namespace": "no-such-namespace"}), encoding="utf-8")

    status, text = diff(kubeconfig=kubeconfig)

    assert status == 1
    assert "namespace no-such-namespace is not there yet; shown as new" in text


def test_a_cluster_that_cannot_be_asked_is_status_3_and_one_line(
    diff: Callable[..., tuple[int, str]], kubeconfig: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "kubeconfig"
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": "nobody"}
    elsewhere.write_text(yaml.safe_dump(config), encoding="utf-8")

    status, text = diff(kubeconfig=elsewhere)

    assert status == 3
    assert text.startswith("slipway: ") and text.count("\n") == 1


def good_release(rendered: Rendered, namespace: str) -> Release:
    """A good release of these objects, as a run would have recorded it."""
    now = datetime.now(UTC)
    return Release(
        id=1,
        endpoint=NAME,
        number=1,
        status="good",
        cluster="sandbox",
        namespace=namespace,
        run_id="deploy_endpoint/x",
        plan={},
        plan_digest="",
        overrides={},
        objects=rendered.to_bytes(),
        digest=rendered.digest,
        label=rendered.release,
        images=[],
        weights_source="s3://models/qwen3-tiny",
        reason="",
        actor="test",
        created_at=now,
        finished_at=now,
    )
