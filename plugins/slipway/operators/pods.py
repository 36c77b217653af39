"""The house's KubernetesPodOperator: one set of defaults, each with its reason, and results by termination message."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from pydantic import BaseModel

from slipway.errors import SlipwayError
from slipway.manifests.render import render_one
from slipway.operators.links import ApiLink, EndpointLink
from slipway.operators.notes import say_failure
from slipway.operators.pod_manager import QuickPodManager, is_api_error, wait_in_worker, what_api_said
from slipway.operators.pod_start import StepPodTrigger, step_doom
from slipway.operators.steps import Work, hold_lock, note_failure, one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import V1Pod

    from slipway.cluster.verdict import Doom


class StepPod(BaseModel):
    """What is particular about one step's pod; ``include/templates/step-pod.yaml.j2`` has the rest.

    Attributes:
        module: the module of the package that runs in it.
        order: the order as JSON; never a secret.
        code_from_tools: the image is not the tools image, so the package is copied in from there.
        credentials: Secrets whose keys are files for the step, renewed while it runs; one that is not there is no
            fault of the pod's, the step says what it misses.
        claims: further claims, mounted read-only: where by claim.
        config_maps: likewise, ConfigMaps.
        api_keys: Secrets and their keys (``secret``, ``key``), each a file ``SECRET/KEY`` below ``api_keys_mount``.
        labels: of a pod that works for several endpoints; those of the plan's endpoint where there are none.
    """

    name: str
    module: str
    order: str
    image: str
    cpu: str = "50m"
    memory: str = "512Mi"
    code_from_tools: bool = False
    api_key: dict[str, str] | None = None
    api_keys: list[dict[str, str]] = []
    api_keys_mount: str = "/api-keys"
    labels: dict[str, str] = {}
    credentials: list[str] = []
    claims: dict[str, str] = {}
    config_maps: dict[str, str] = {}
    weights_mount: str | None = None
    weights_read_only: bool = True


class StepPodOperator(KubernetesPodOperator):
    """A step that runs in a pod of the endpoint's namespace.

    The defaults, and why:

    - ``durable`` (the provider's own): a retried task finds the pod of the attempt before by the stored name.
    - ``startup_timeout_seconds`` 900 and ``schedule_timeout_seconds`` 600: the provider's 120 s are shorter than the
      pull of a serving image and than a node's coming up.
    - ``log_pod_spec_on_failure=False``: the default puts the whole pod, environment included, into the failure.
    - ``on_finish_action="delete_pod"``: what a failed pod said is in its log and its termination message, both kept.
    - ``active_deadline_seconds``: the cluster ends the pod even if Airflow is gone.
    - ``do_xcom_push=False``: the provider's sidecar needs an image from a public registry and the right to exec; a
      result is small and travels in the termination message (4,096 bytes, by Kubernetes' own limit).
    - ``random_name_suffix``: a retried pod never meets the name of one that is still ending.

    - ``first_look``: a step that waits deferred first waits so many seconds in its worker, since going to the triggerer
      and back takes the triggerer two to three seconds and a second task process; a pod that finds nothing to do has
      ended by then.
    - ``pod_manager``: the provider's looks each second whether a pod has started, and every two whether one whose
      container has ended has too; and it gives up a pod as soon as the API server is away for some seconds.

    A SIGTERM to the provider's operator can leave the task green although its pod is gone (apache/airflow#73006);
    here it is a failure.

    Args:
        release: the resolve step's reference.
        deadline: the longest that the pod may run.
        deferrable: wait in the triggerer instead of a worker; for what takes minutes.
        finished: the step works on a release that is good already (a benchmark, a probe after scaling), not on a
            pending one.
        first_look: seconds to wait in the worker before the step is deferred.
    """

    template_fields: Sequence[str] = ("release",)
    operator_extra_links = (EndpointLink(), ApiLink())

    def __init__(
        self,
        *,
        release: Any,
        deadline: timedelta = timedelta(hours=1),
        deferrable: bool = False,
        finished: bool = False,
        first_look: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kubernetes_conn_id=None,
            base_container_name="step",
            name=kwargs["task_id"],
            startup_timeout_seconds=900,
            schedule_timeout_seconds=600,
            startup_check_interval_seconds=1,
            log_pod_spec_on_failure=False,
            log_events_on_failure=True,
            on_finish_action="delete_pod",
            active_deadline_seconds=int(deadline.total_seconds()),
            execution_timeout=deadline + timedelta(minutes=30),
            termination_message_policy="FallbackToLogsOnError",
            do_xcom_push=False,
            deferrable=deferrable,
            poll_interval=1,
            base_container_status_polling_interval=0.5,
            container_name_log_prefix_enabled=False,
            **kwargs,
        )
        self.release, self.finished, self.first_look = release, finished, first_look
        self.opened: Work | None = None

    @cached_property
    def pod_manager(self) -> QuickPodManager:
        """The provider's, which sees the end of a pod sooner."""
        return QuickPodManager(kube_client=self.client, callbacks=self.callbacks)

    def execute(self, context: Context) -> None:
        """Run the pod of this step for its release."""
        with one_line_failures(context, self.release):
            work = self._open(context)
            self.admit(work, context)
            pod = self.pod_of(work)
            if pod is None:
                return
            self.before(work)
            self.pod_template_dict = render_one("step-pod.yaml.j2", plan=work.plan, step=pod)
            self.namespace = work.plan.namespace
            self.name = f"{work.plan.object_name}-{pod.name}"
            self.log.info("pod of image %s", pod.image)
            super().execute(context)
        self._refuse_killed(context)

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Context) -> V1Pod:
        """Make the pod, or find that of an attempt before; a refusal that stays one ends the run in one line.

        Raises:
            ClusterError: a quota, a limit, a policy, Pod Security or a missing right keeps the pod from being made.
        """
        from kubernetes.client import ApiException

        from slipway.cluster.faults import api_error

        try:
            return super().get_or_create_pod(pod_request_obj, context)
        except ApiException as error:
            about = f"Pod {self.namespace}/{self.name}"
            body = (error.body or "").encode() if isinstance(error.body, str) else error.body or b""
            told = api_error(
                "could not make the step's pod", about=about, status=int(error.status or 0), body=body
            )
            if told.is_transient or not 400 <= told.status < 500:
                raise
            raise told from error

    def invoke_defer_method(self, last_log_time: Any = None, context: Context | None = None) -> None:
        """Wait in the worker for a moment; the provider does not defer for a pod that has ended."""
        if last_log_time is None and self.pod is not None:
            self.pod = wait_in_worker(self.pod_manager, self.pod, seconds=self.first_look)
        super().invoke_defer_method(last_log_time=last_log_time, context=context)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> None:
        """Go on after a deferral, in a worker that knows nothing yet."""
        with one_line_failures(context, self.release):
            self._open(context)
        super().trigger_reentry(context, event)
        self._refuse_killed(context)

    def defer(self, *, trigger: Any, **kwargs: Any) -> NoReturn:
        """Defer with the connection's id alone: the provider would write the kubeconfig into the trigger's row."""
        if isinstance(trigger, KubernetesPodTrigger):
            trigger = StepPodTrigger(**{**trigger.serialize()[1], "connection_extras": None})
        super().defer(trigger=trigger, **kwargs)

    def convert_config_file_to_dict(self) -> None:
        """Leave the kubeconfig that ``KUBECONFIG`` may name alone: the provider would carry it in the trigger."""

    def post_complete_action(
        self, *, pod: V1Pod, remote_pod: V1Pod, context: Context, result: dict[Any, Any] | None, **kwargs: Any
    ) -> None:
        """Take the result out of the finished pod before it is deleted, or the reason of its failure."""
        work, lost = self.opened, sys.exception()
        # Asked before the pod is deleted; that it didn't start is all that is known of one that never ran.
        doom = None if self._killed else self._why_not_started(remote_pod)
        try:
            if work is not None and not self._killed and succeeded(remote_pod):
                context["ti"].xcom_push(key="pod_times", value=pod_times(remote_pod))
                with one_line_failures(context, self.release):
                    self.done(work, termination_message(remote_pod), context)
        finally:
            try:
                super().post_complete_action(
                    pod=pod, remote_pod=remote_pod, context=context, result=result, **kwargs
                )
            except AirflowException:
                about = work.plan.endpoint if work else self.task_id
                failure = doom.error() if doom else self._failure(remote_pod or pod, lost, about=about)
                if self.release is not None:
                    note_failure(self.release, step=self.task_id, error=failure)
                say_failure(context, str(failure))
                raise AirflowFailException(f"{self.task_id}: {failure}") from None

    def admit(self, work: Work, context: Context) -> None:
        """See that the release may still be worked on and that this run holds the endpoint's lock."""
        work.must_be("good" if self.finished else "pending")
        hold_lock(work, context, task=self)

    def pod_of(self, work: Work) -> StepPod | None:
        """What this step's pod is; None when there is nothing to do."""
        raise SlipwayError("this step has no pod", about=type(self).__name__)

    def before(self, work: Work) -> None:
        """What must be there before the pod starts."""

    def done(self, work: Work, message: str, context: Context) -> None:
        """What becomes of the pod's result."""

    def pod_log(self) -> str:
        """The whole log of the step's container, from its finished pod."""
        assert self.pod is not None  # a result came from it
        place = {"name": self.pod.metadata.name, "namespace": self.pod.metadata.namespace}
        return str(self.client.read_namespaced_pod_log(**place, container=self.base_container_name))

    def _open(self, context: Context) -> Work:
        self.opened = Work(self.release)
        self.kubernetes_conn_id = self.opened.plan.connection
        return self.opened

    def _why_not_started(self, pod: V1Pod | None) -> Doom | None:
        if self.opened is None or pod is None or not pod.status or pod.status.phase != "Pending":
            return None
        try:
            place = {"namespace": pod.metadata.namespace, "name": pod.metadata.name}
            return step_doom(self.opened.cluster(), **place)
        except SlipwayError as error:
            self.log.warning("why the pod does not start could not be asked: %s", error)
            return None

    def _failure(self, pod: V1Pod, lost: BaseException | None, *, about: str) -> SlipwayError:
        from slipway.pods import parse_result

        message = termination_message(pod)
        if message:
            try:
                parse_result(message, BaseModel)
            except SlipwayError as error:
                return error
        if lost is not None and is_api_error(lost):
            return SlipwayError(
                "the step's pod could not be watched to its end", about=about, why=what_api_said(lost)
            )
        return SlipwayError("the step's pod failed", about=about, why=why_ended(pod))

    def _refuse_killed(self, context: Context) -> None:
        if self._killed:
            raise AirflowFailException(f"{context['ti'].task_id}: the task was killed and its pod deleted")


def succeeded(pod: V1Pod | None) -> bool:
    """Whether the step's container ended with exit status 0."""
    ended = _terminated(pod)
    return ended is not None and ended.exit_code == 0


def termination_message(pod: V1Pod) -> str:
    """The message that the step's container left, or ""."""
    state = _terminated(pod)
    return (state.message or "") if state else ""


def _terminated(pod: V1Pod | None) -> Any:
    statuses = (pod.status.container_statuses if pod and pod.status else None) or []
    return next((status.state.terminated for status in statuses if status.name == "step"), None)


def pod_times(pod: V1Pod) -> dict[str, float]:
    """When the pod was made and when its container started and finished, as seconds since 1970."""
    ended = _terminated(pod)
    return {
        "created": pod.metadata.creation_timestamp.timestamp(),
        "started": ended.started_at.timestamp(),
        "finished": ended.finished_at.timestamp(),
    }


def why_ended(pod: V1Pod) -> str:
    """Say in one line why a pod ended, from what the cluster knows of it."""
    ended = _terminated(pod)
    if ended:
        if ended.reason == "OOMKilled":
            limit = pod.spec.containers[0].resources.limits.get("memory", "its limit")
            return f"it used more memory than its limit of {limit} and was killed"
        return f"its container ended with exit status {ended.exit_code} ({ended.reason or 'no reason given'})"
    status = pod.status if pod else None
    if status is None:
        return "the cluster knows nothing of it any more"
    if status.reason:
        return f"{status.reason}: {status.message or 'no message'}"
    for container in [*(status.init_container_statuses or []), *(status.container_statuses or [])]:
        waiting = container.state.waiting if container.state else None
        if waiting and waiting.reason not in (None, "PodInitializing", "ContainerCreating"):
            return f"{waiting.reason}: {waiting.message or 'no message'}"
    for condition in status.conditions or []:
        if condition.status == "False" and condition.reason == "Unschedulable":
            return f"no node takes it: {condition.message}"
    return f"it stayed in phase {status.phase}"
