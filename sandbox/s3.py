"""versitygw: a real S3 server over a directory."""

from __future__ import annotations

import time
from pathlib import Path

from sandbox import credentials, gobuild, supervisor
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import S3_PORT, Settings
from sandbox.supervisor import Program

BUCKET = "models"
REGION = "us-east-1"


def program(config: Settings) -> Program:
    """The server, on the address that this machine and the pods both use."""
    binary = gobuild.program(config, gobuild.VERSITYGW, "versitygw")
    return Program(
        name="s3",
        command=[
            str(binary),
            f"--port={config.s3_host}:{S3_PORT}",
            f"--region={REGION}",
            "--quiet",
            "posix",
            str(_data(config)),
        ],
        environment={
            "ROOT_ACCESS_KEY": access_key(config),
            "ROOT_SECRET_KEY": secret_key(config),
        },
        priority=50,
    )


def access_key(config: Settings) -> str:
    """The access key id of the one account."""
    return credentials.kept(config, "s3-access-key")


def secret_key(config: Settings) -> str:
    """The secret key of the one account."""
    return credentials.kept(config, "s3-secret-key")


def connection(config: Settings) -> dict[str, str]:
    """What a client on this machine needs."""
    return {"endpoint_url": config.s3_url, "access_key": access_key(config), "secret_key": secret_key(config)}


def start(config: Settings) -> None:
    """Start the server with its bucket; a bucket is a directory of the posix backend."""
    (_data(config) / BUCKET).mkdir(parents=True, exist_ok=True)
    supervisor.start_programs(config, ["s3"])
    deadline = time.monotonic() + 30
    while not _answers(config):
        supervisor.require_running(config, "s3")
        if time.monotonic() > deadline:
            raise SandboxError(f"S3 does not answer at {config.s3_url}; see {config.logs}/s3.log")
        time.sleep(0.1)
    say("s3 ready")


def _answers(config: Settings) -> bool:
    import httpx

    try:
        httpx.head(f"{config.s3_url}/{BUCKET}", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False
    return True


def _data(config: Settings) -> Path:
    return config.home / "s3"
