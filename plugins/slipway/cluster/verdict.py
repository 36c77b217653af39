"""What is known about a workload: available, on its way, or never going to be."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from slipway.cluster.objects import Object
from slipway.errors import WorkloadError


class Doom(BaseModel):
    """Why a workload will never become available by itself.

    Attributes:
        reason: one word for machines, Kubernetes's own where it has one ("ImagePullBackOff", "OOMKilled").
        about: the object that it is about ("Pod models/qwen3-tiny-0, container server").
        why: the cluster's own words, with the numbers.
        remedy: what the reader does next.
        pod, container: whose log tells more; None where no container ever ran.
        previous: whether that is the log of the container's run before this one.
    """

    model_config = ConfigDict(frozen=True)

    reason: str
    about: str
    why: str
    remedy: str
    pod: str | None = None
    container: str | None = None
    previous: bool = False

    def error(self) -> WorkloadError:
        """Return it as an error to raise."""
        return WorkloadError(
            "the workload cannot become available",
            about=self.about,
            why=f"{self.reason}: {self.why}" if self.why else self.reason,
            remedy=self.remedy,
        )


class Verdict(BaseModel):
    """The state of a workload. It crosses from trigger to worker as JSON, so it holds plain values only.

    Attributes:
        state: "available" once every pod of the release is Ready and the controller is done with it.
        what: one line for a log: what is happening, or what is reached.
        doom: the reason, when the state is "doomed".
        log: the end of the failed container's log, or "".
    """

    model_config = ConfigDict(frozen=True)

    state: Literal["available", "progressing", "doomed"]
    what: str
    doom: Doom | None = None
    log: str = ""


class Limits(BaseModel):
    """How long a state that often mends itself may stay before it counts as the reason. All in seconds.

    Attributes:
        unschedulable: a pod finds no node. Long enough for an earlier pod to free one.
        scale_up: the same while an autoscaler says that it adds a node.
        pull: an image pull fails for a reason that may pass (network, registry overloaded).
        mount: a volume cannot be mounted or attached; a detach elsewhere takes its time.
        missing: something by name isn't there (claim, Secret in a volume), in case it is just being made.
        provision: nobody makes the volume of a claim.
        create: the controller cannot make a pod for lack of quota.
        node: the node stopped answering.
    """

    model_config = ConfigDict(frozen=True)

    unschedulable: float = 30
    scale_up: float = 900
    pull: float = 60
    mount: float = 120
    missing: float = 15
    provision: float = 60
    create: float = 20
    node: float = 60


def doomed(doom: Doom, *, log: str = "") -> Verdict:
    """Return the verdict for a reason."""
    return Verdict(state="doomed", what=str(doom.error()), doom=doom, log=log)


def progressing(what: str) -> Verdict:
    """Return the verdict for a workload that may still become available."""
    return Verdict(state="progressing", what=what)


def moment(text: str | None) -> datetime | None:
    """Read a Kubernetes time; None stays None."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def lasted(since: str | datetime | None, now: datetime, seconds: float) -> bool:
    """Return whether something has lasted for ``seconds``; without a time it has not."""
    start = moment(since) if isinstance(since, str) else since
    return start is not None and now - start >= timedelta(seconds=seconds)


def condition(obj: Object, kind: str) -> Object:
    """Return a status condition by its type, or {} when the object has none."""
    found = (c for c in obj.get("status", {}).get("conditions") or [] if c.get("type") == kind)
    return next(found, {})
