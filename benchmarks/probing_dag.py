"""The same thousand endpoints as ``benchmarks.probing``, probed by the DAG itself in the sandbox's Airflow.

``python -m benchmarks.probing_dag`` prints a JSON object for each run of ``probe_endpoints``: from the trigger to the
end, each of its tasks, and the memory of all of Airflow's processes together. Needs a sandbox (``make up``) and root.

Their releases are in the sandbox's own history while it runs, between two firings of the DAG's schedule, and are
deleted from it in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import URL

from benchmarks.many import Peak, forget, namespace
from benchmarks.probing import ENDPOINTS
from benchmarks.probing_objects import NAMESPACE, make_objects, released_ones
from sandbox import airflow, catalog, settings
from slipway.airflow_rest import AirflowRest
from slipway.cluster.client import Cluster
from slipway.releases.database import Database
from slipway.releases.store import History

DAG_ID = "probe_endpoints"
SCHEDULE_SECONDS = 300
LONGEST = 600.0


def main() -> int:
    """Make the endpoints, let the DAG probe them and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=ENDPOINTS)
    parser.add_argument("--runs", type=int, default=2)
    arguments = parser.parse_args()
    config = settings.load(recorded=True)
    if not airflow.is_running(config):
        reason = "the sandbox is not up; make up starts it"
        print(json.dumps({"benchmark": "probing_dag", "not_measured": reason}))
        return 0
    os.environ.update(airflow.airflow_environment(config))
    scratch = Path(tempfile.mkdtemp(prefix="slipway-bench-probing-"))
    names = [f"simulated-{number:04}" for number in range(arguments.endpoints)]
    cluster, history = Cluster.from_kubeconfig(config.admin_kubeconfig), History.open()
    try:
        shutil.copytree(catalog.include_directory(config), scratch / "include")
        os.environ["SLIPWAY_INCLUDE"] = str(scratch / "include")
        planned = History(Database(URL.create("sqlite", database=str(scratch / "history.db"))))
        released, image = released_ones(planned, scratch / "include", names)
        with namespace(cluster, NAMESPACE), AirflowRest.from_environment() as rest:
            make_objects(cluster, released, image=image)
            _wait_for_the_schedule()
            released_ones(history, scratch / "include", names)
            ended = [_run(rest, history, names, home=config.home) for _ in range(arguments.runs)]
            forget(history, NAMESPACE)
    finally:
        forget(history, NAMESPACE)
        shutil.rmtree(scratch)
    return 0 if all(ended) else 1


def _wait_for_the_schedule() -> None:
    """Wait until the schedule has just fired, so that it does not again in the middle of what is measured."""
    while not 20 < time.time() % SCHEDULE_SECONDS < 60:
        time.sleep(1)


def _run(rest: AirflowRest, history: History, names: list[str], *, home: Path) -> bool:
    """Trigger the DAG, follow it and print what it took; returns whether it went well."""
    peak, began = Peak(str(home / "airflow")), time.time()
    idle = peak.look()
    run_id = rest.trigger(DAG_ID, {})
    with peak.watching():
        outcome = rest.follow(
            DAG_ID, run_id, say=lambda line: print(line, file=sys.stderr), seconds=LONGEST, every=0.5
        )
    steps = {step["task_id"]: step["duration"] for step in rest.steps(DAG_ID, run_id) if step["duration"]}
    latest = [history.states(name, limit=1) for name in names]
    known = [one[0] for one in latest if one and one[0].seen.timestamp() > began]
    figures = {
        "state": outcome.state,
        "trigger_to_end_s": round(outcome.seconds, 1),
        **{f"{name}_s": round(seconds, 1) for name, seconds in steps.items()},
        "known": len(known),
        "serving": sum(one.state == "serving" for one in known),
        "airflow_idle_mib": round(idle),
        "airflow_peak_mib": round(peak.most),
        "load_of_machine": round(os.getloadavg()[0], 1),
    }
    print(json.dumps({"benchmark": "probing_dag", "endpoints": len(names), **figures}), flush=True)
    return outcome.state == "success"


if __name__ == "__main__":
    sys.exit(main())
