"""Airflow: api-server, scheduler, dag-processor and triggerer, on SQLite unless a database URL is given.

The settings ask for short gaps between tasks: what a person waits for when an endpoint is deployed should be the
cluster, not a loop that sleeps.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path

from sandbox import catalog, commands, credentials, gobuild, settings, supervisor
from sandbox.credentials import kept
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import CHECKOUT, Settings
from sandbox.supervisor import Program
from sandbox.templating import write

USER = "admin"
SERVICES = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
START_SECONDS = 180


def programs(config: Settings) -> list[Program]:
    """The four services, under supervisord."""
    airflow = Path(sys.executable).parent / "airflow"
    environment = airflow_environment(config)
    # The log servers of scheduler and triggerer are for other machines; here the files lie at hand.
    arguments = {
        "airflow-api-server": ["api-server", "--host", "127.0.0.1", "--port", str(config.airflow_port)],
        "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
        "airflow-dag-processor": ["dag-processor"],
        "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
    }
    return [
        Program(
            name=name,
            command=[airflow, *arguments[name]],
            environment=environment,
            directory=CHECKOUT,
            priority=60,
            stop_seconds=15,
        )
        for name in SERVICES
    ]


def start(config: Settings) -> None:
    """Bring the database up to date, start the services and wait until all four say that they are healthy.

    Raises:
        SandboxError: a service gave up or took too long.
    """
    _migrate(config)
    supervisor.start_programs(config, SERVICES)
    deadline = time.monotonic() + START_SECONDS
    while (sick := _unhealthy(config)) != []:
        for name in SERVICES:
            supervisor.require_running(config, name)
        if time.monotonic() > deadline:
            raise SandboxError(
                f"Airflow is not healthy after {START_SECONDS} s: {', '.join(sick)}; see {config.logs}"
            )
        time.sleep(0.3)
    say("airflow ready")


def is_running(config: Settings) -> bool:
    """Whether our own API server holds its port."""
    return any(
        part.name == "airflow-api-server" and part.state in {"RUNNING", "STARTING"}
        for part in supervisor.parts(config)
    )


def airflow_environment(config: Settings | None = None) -> dict[str, str]:
    """The environment in which Airflow's services, the demo and the tests run."""
    config = config or settings.load()
    home = config.home / "airflow"
    database = config.airflow_database_url or f"sqlite:///{home}/airflow.db"
    jwt_secret = kept(config, "airflow-jwt-secret", lambda: secrets.token_urlsafe(48))
    options = {
        "CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
        "CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__FERNET_KEY": kept(config, "airflow-fernet-key", credentials.fernet_key),
        "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_passwords(config)),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{config.airflow_port}/execution/",
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "API__SECRET_KEY": kept(config, "airflow-api-secret-key"),
        "API__BASE_URL": config.airflow_url,
        "API__PORT": str(config.airflow_port),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": jwt_secret,
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        # A task that becomes ready waits for at most this long until the scheduler looks again.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "SCHEDULER__JOB_HEARTBEAT_SEC": "5",
        # Tasks of a scheduler that was killed go on after a minute, not after five.
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
        # The watcher of a task that ends just while it looks finds out at its next look only: five seconds later for
        # one task in five, and a triggerer that is quicker than that makes Airflow run the task once more.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "DAG_PROCESSOR__PRINT_STATS_INTERVAL": "300",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    environment = {f"AIRFLOW__{name}": value for name, value in options.items()}
    environment |= {
        "AIRFLOW_HOME": str(home),
        # Airflow renames its processes; without this it would overwrite the environment by which they are known.
        "SPT_NOENV": "1",
        "AIRFLOW_CONN_SLIPWAY_SANDBOX": _connection(config.slipway_kubeconfig),
        # For prepare_cluster alone; a cluster of one's own should have it in Airflow, where it is encrypted.
        "AIRFLOW_CONN_SLIPWAY_SANDBOX_ADMIN": _connection(config.admin_kubeconfig),
        "SLIPWAY_AIRFLOW_URL": config.airflow_url,
        "SLIPWAY_AIRFLOW_USER": USER,
        "SLIPWAY_AIRFLOW_PASSWORD": password(config),
        "SLIPWAY_ARTIFACTS": str(config.home / "artifacts"),
        "SLIPWAY_DATABASE_URL": config.database_url or f"sqlite:///{config.home}/slipway.db",
        "SLIPWAY_HELM": str(gobuild.program(config, gobuild.HELM, "helm")),
        "SLIPWAY_PACKAGES": str(config.home / "packages"),
        "SLIPWAY_INCLUDE": str(catalog.include_directory(config)),
        "KUBECONFIG": _kubeconfig(config),
    }
    if not config.native:
        environment["SLIPWAY_KUBECONFIG"] = str(config.kubeconfig)
        environment["SLIPWAY_REGISTRY"] = str(config.registry)
    return environment


def write_env_file(config: Settings) -> Path:
    """Write what a terminal needs to a file that a person can source: `. /var/lib/slipway-sandbox/env`."""
    variables = airflow_environment(config)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    lines.append(f'export PATH={shlex.quote(str(CHECKOUT / ".venv/bin"))}:{config.home}/bin:"$PATH"')
    write(env_file(config), "\n".join(lines) + "\n", mode=0o600)
    return env_file(config)


def password(config: Settings) -> str:
    """The password of `admin`; made at random on first use."""
    return kept(config, "airflow-admin-password", lambda: secrets.token_urlsafe(12))


def password_file(config: Settings) -> Path:
    """The file that holds the password and nothing else."""
    return credentials.file(config, "airflow-admin-password")


def env_file(config: Settings) -> Path:
    """The file of `write_env_file`."""
    return config.home / "env"


def _migrate(config: Settings) -> None:
    """Make the home directory and the database; a stamp saves the ten seconds that finding nothing to do takes."""
    home = config.home / "airflow"
    local_settings = home / "config" / "airflow_local_settings.py"
    write(local_settings, (settings.FILES / "airflow_config" / "airflow_local_settings.py").read_text())
    write(_passwords(config), json.dumps({USER: password(config)}) + "\n", mode=0o600)
    write_env_file(config)
    for name in ("artifacts", "packages"):
        (config.home / name).mkdir(exist_ok=True)
    environment = airflow_environment(config)
    url = environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    stamp = home / "migrated"
    wanted = hashlib.sha256(f"{version('apache-airflow')} {url}".encode()).hexdigest()
    lost = url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists()
    if stamp.exists() and stamp.read_text() == wanted and not lost:
        return
    say("making Airflow's database")
    airflow = Path(sys.executable).parent / "airflow"
    commands.run(
        [airflow, "db", "migrate"], env=_beside_ours(environment), log=config.logs / "airflow-migrate.log"
    )
    write(stamp, wanted)


def _unhealthy(config: Settings) -> list[str]:
    """The services that do not say that they are healthy."""
    import httpx

    try:
        answer = httpx.get(
            f"http://127.0.0.1:{config.airflow_port}/api/v2/monitor/health", timeout=5, trust_env=False
        )
        health = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return ["api-server"]
    services = ("metadatabase", "scheduler", "dag_processor", "triggerer")
    return [name for name in services if (health.get(name) or {}).get("status") != "healthy"]


def _connection(kubeconfig: Path) -> str:
    extra = {"kube_config_path": str(kubeconfig), "in_cluster": False}
    return json.dumps({"conn_type": "kubernetes", "extra": extra})


def _kubeconfig(config: Settings) -> str:
    """As Airflow sees the cluster; on the native node a person also has the administrator's context."""
    if config.native:
        return f"{config.slipway_kubeconfig}:{config.admin_kubeconfig}"
    return str(config.kubeconfig)


def _passwords(config: Settings) -> Path:
    return config.secrets / "airflow-passwords.json"


def _beside_ours(environment: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **environment}
