"""The commands and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, get_args

Run = Callable[[argparse.Namespace], int]


class _Later:
    """A module of commands that is imported when one of them runs: fetching weights needs nothing of the catalog."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, command: str) -> Run:
        def run(options: argparse.Namespace) -> int:
            found: Run = getattr(import_module(f"slipway.cli.{self._name}"), command)
            return found(options)

        return run


if TYPE_CHECKING:
    from slipway.cli import fetch, hydra, keys, live, prepare, records, runs
else:
    modules = ("fetch", "hydra", "keys", "live", "prepare", "records", "runs")
    fetch, hydra, keys, live, prepare, records, runs = map(_Later, modules)

_OVERRIDES = 'JSON, for example {"replicas": 2}'


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``slipway``; each command's ``run`` is what carries it out."""
    parser = argparse.ArgumentParser(prog="slipway", description="Put large language models into service.")
    parser.add_argument(
        "--include", type=Path, default=None, help="the include directory; default: the project's"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    _catalog_commands(command)
    _hydra_commands(command)
    _cluster_commands(command)
    _release_commands(command)
    _key_commands(command)
    return parser


def _catalog_commands(command: Callable[[str, Run, str], argparse.ArgumentParser]) -> None:
    command("validate", records.validate, "check the whole catalog")
    added = command("render", records.show, "print the objects of an endpoint or a cluster as YAML")
    added.add_argument("endpoint", nargs="?")
    added.add_argument("--overrides", help=_OVERRIDES)
    added.add_argument("--cluster", metavar="NAME", help="what a cluster needs besides endpoints")
    added.add_argument(
        "--values", metavar="CHART", help="with --cluster: the values of one of its Helm charts"
    )
    added = command("schemas", records.schemas, "write JSON Schemas of the records, for editors")
    added.add_argument("directory", type=Path)


def _hydra_commands(command: Callable[[str, Run, str], argparse.ArgumentParser]) -> None:
    def from_or_to(verb: str, run: Run, text: str) -> argparse.ArgumentParser:
        systems = command(verb, run, text).add_subparsers(required=True, metavar="SYSTEM")
        added: argparse.ArgumentParser = systems.add_parser("hydra", help=text, description=text)
        return added

    added = from_or_to("import", hydra.import_hydra, "bring runtimes of another system into the catalog")
    added.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="hydra-runtime-template, deployment_templates"
    )
    added.add_argument("--into", type=Path, metavar="DIR", help="default: the catalog's runtimes")
    added.add_argument("--replace", action="store_true", help="write over files of the same name")
    added.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    added.add_argument("--task", type=_task, default="chat", help="what the runtimes do")
    added = from_or_to("export", hydra.export_hydra, "print a runtime as another system takes it")
    added.add_argument("runtime")
    added.add_argument("--namespace", help="of its ConfigMap; default: that of the runtime's system")
    added.add_argument("--registry", help="of images that this project builds")
    added.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable as text")


def _cluster_commands(command: Callable[[str, Run, str], argparse.ArgumentParser]) -> None:
    check = command("check", live.check, "check a cluster, or that an endpoint's cluster can take it")
    diff = command(
        "diff",
        live.diff,
        "show what a deployment would change on the cluster; exit status 0: nothing, 1: something, 3: cannot be told",
    )
    for added in (check, diff):
        added.add_argument("endpoint", metavar="NAME" if added is check else None)
        added.add_argument("--overrides", help=_OVERRIDES)
        added.add_argument("--kubeconfig", type=Path, default=None, help="default: $KUBECONFIG")
    check.add_argument(
        "--active",
        action="store_true",
        help="also try it out: pods that write to a volume, resolve names, reach registry and sources",
    )
    check.add_argument(
        "--node-pods",
        metavar="NAMESPACE",
        help="of a cluster: also look at the nodes' own files, with pods in this namespace of level privileged",
    )
    added = command("prepare", prepare.prepare, "show what a cluster lacks of its record, and make it")
    added.add_argument("cluster")
    how = added.add_mutually_exclusive_group()
    how.add_argument("--plan", action="store_true", help="only show it (the default)")
    how.add_argument("--approve", action="store_true", help="make what is shown")
    how.add_argument("--images", action="store_true", help="list the images and charts that it pulls instead")
    added.add_argument("--steps", metavar="ID,…", help="only these; `charts` for all charts")
    added.add_argument(
        "--take-over", action="store_true", help="take over fields that other field managers hold"
    )
    added.add_argument("--reason", default="", help="why, for the history")
    added.add_argument("--kubeconfig", type=Path, default=None, help="default: $KUBECONFIG")
    for one in (check, added):
        one.add_argument("--output", choices=("table", "json"), default="table")


def _release_commands(command: Callable[[str, Run, str], argparse.ArgumentParser]) -> None:
    added = command("fetch", fetch.fetch, "bring weights into a directory, verified")
    added.add_argument("source", help="s3://bucket/prefix, modelscope://org/name, https://…")
    added.add_argument("directory", type=Path)
    added.add_argument(
        "--verify", choices=("marker", "full"), default="marker", help="full: read all files again"
    )
    added.add_argument("--revision", help="a branch, tag or commit of a hub's model")
    added.add_argument("--endpoint-url", help="of an S3 service other than AWS")
    for name, dag, text in (
        ("deploy", "deploy_endpoint", "deploy an endpoint through Airflow and follow the run"),
        ("redeploy", "redeploy_endpoint", "deploy again what the last good release deployed"),
    ):
        added = command(name, runs.deploy, text)
        added.set_defaults(dag=dag)
        _of_a_run(added)
        added.add_argument("--overrides", help=_OVERRIDES)
        added.add_argument(
            "--restart", action="store_true", help="start the pods anew also if nothing changes"
        )
        _rolled_out(added)
    added = command("adopt", runs.adopt, "take over an endpoint that was applied with kubectl; no restart")
    _of_a_run(added)
    added.add_argument("--yes", action="store_true", help="adopt what is shown without asking")
    added.add_argument(
        "--take-over", action="store_true", help="also what other programs than kubectl manage"
    )
    added.add_argument("--kubeconfig", type=Path, default=None, help="default: $KUBECONFIG")
    added = command("rollback", runs.rollback, "go back to a release that was good")
    _of_a_run(added)
    _rolled_out(added)
    added.add_argument("--to", type=int, metavar="N", help="default: the one before the one that serves")
    added.add_argument("--dry-run", action="store_true", help="only say what is different")
    added = command(
        "scale", runs.scale, "set an endpoint's replicas, or turn autoscaling on or off; 0 stops it"
    )
    _of_a_run(added)
    added.add_argument("replicas", type=int, nargs="?", help="a fixed number; 0 stops the endpoint")
    added.add_argument("--autoscaling", choices=("on", "off"), help="by the rule of the endpoint's record")
    added.add_argument("--minimum", type=int, help="with --autoscaling on: the fewest replicas")
    added.add_argument("--maximum", type=int, help="with --autoscaling on: the most")
    added = command("remove", runs.remove, "remove an endpoint from its cluster")
    _of_a_run(added)
    added.add_argument("--confirm", required=True, metavar="ENDPOINT", help="the endpoint's name again")
    added.add_argument("--weights", action="store_true", help="also delete the volume with the weights")
    added = command("history", runs.history, "list an endpoint's releases")
    added.add_argument("endpoint")
    added.add_argument("--limit", type=int, default=20)
    added.add_argument("--rebuild", action="store_true", help="restore them from the cluster first")
    added.add_argument("--kubeconfig", type=Path, default=None, help="for --rebuild; default: $KUBECONFIG")


def _key_commands(command: Callable[[str, Run, str], argparse.ArgumentParser]) -> None:
    text = "make, rotate and retire an endpoint's API key, with your own rights on its Secret"
    changes = command("key", keys.create, text).add_subparsers(required=True, metavar="CHANGE")
    for name, run, does in (
        ("create", keys.create, "make the key where there is none, and print it"),
        ("rotate", keys.rotate, "have a new key accepted beside the old one, and print it"),
        ("retire", keys.retire, "have the old key refused"),
    ):
        added: argparse.ArgumentParser = changes.add_parser(name, help=does, description=does)
        added.set_defaults(run=run, key=None)
        added.add_argument("endpoint")
        added.add_argument("--kubeconfig", type=Path, default=None, help="of somebody who may change it")
        if name != "create":
            added.add_argument("--reason", default="", help="why, for the history")
            _rolled_out(added)
        if name == "rotate":
            added.add_argument(
                "--at-once", action="store_true", help="also where the program takes one key at a time"
            )


def _rolled_out(command: argparse.ArgumentParser) -> None:
    """What every command takes whose run puts a release in the place of another."""
    command.add_argument(
        "--strategy",
        type=_strategy,
        metavar="STRATEGY",
        help="how it takes the place of the one that serves; default: the endpoint's record, else by free room",
    )


def _of_a_run(command: argparse.ArgumentParser) -> None:
    """What every command takes that triggers a DAG for an endpoint."""
    command.add_argument("endpoint")
    command.add_argument("--reason", default="")
    command.add_argument("--key", help="idempotency key: the same key twice makes one run")


def _task(name: str) -> str:
    from slipway.catalog.records import Task

    return _one_of(name, get_args(Task))


def _strategy(name: str) -> str:
    from slipway.catalog.records import Strategy

    return _one_of(name, get_args(Strategy))


def _one_of(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(names)}")
    return name
