"""The kinds of values that records are made of. Each says by its pattern what Kubernetes would refuse anyway."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

# Python's `$` also matches before a newline at the end; `\Z` does not, and pydantic's own engine knows only `$`
# as the very end. Patterns here are for pydantic's engine.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?$")]
ObjectName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$", max_length=253
    ),
]
Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
ServedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$")]
Quantity = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$")
]


def _more_than_nothing(value: str) -> str:
    if not re.search("[1-9]", value):
        raise ValueError("must be more than 0")
    return value


PositiveQuantity = Annotated[Quantity, AfterValidator(_more_than_nothing)]
ImageReference = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9./:_-]*(@sha256:[0-9a-f]{64})?$", max_length=512)
]
ImagePrefix = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9./:_-]*$", max_length=256)]
Argument = Annotated[str, StringConstraints(min_length=1, max_length=8192, pattern=r"^[^\x00]*$")]
Text = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]
Flag = Annotated[str, StringConstraints(pattern=r"^--?[A-Za-z0-9][A-Za-z0-9_.-]{0,126}$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")]
Revision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Version = Annotated[
    str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+){0,3}([.-]?[A-Za-z][A-Za-z0-9.]*)?$", max_length=64)
]
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
    ),
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
ResourceName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
    ),
]
HostName = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$",
        max_length=253,
    ),
]
HttpPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/-]*$", max_length=1024)]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]*$", max_length=1024)]
PortName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,13}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,5}(ms|s|m|h)$")]
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[A-Za-z0-9.:-]{1,253})$")]
ConnectionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,250}$")]
Labels = dict[LabelKey, LabelValue]
Annotations = dict[LabelKey, Text]
Names = dict[Annotated[str, StringConstraints(pattern=r"^[a-z]{2}([A-Z]{2})?$")], Text]
KubernetesObject = dict[Annotated[str, StringConstraints(max_length=256)], JsonValue]

AcceleratorKind = Literal[
    "cpu", "nvidia", "cambricon", "hygon", "iluvatar", "mthreads", "ascend", "metax", "ppu"
]
Task = Literal["chat", "completion", "embedding", "image"]
PodSecurity = Literal["restricted", "baseline", "privileged"]
AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod", "ReadOnlyMany"]

SOURCE_SCHEMES = ("modelscope", "s3", "https", "http", "nfs", "pvc", "oss")


def _source(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in SOURCE_SCHEMES:
        raise ValueError(f"a source starts with one of {', '.join(f'{s}://' for s in SOURCE_SCHEMES)}")
    if not parts.netloc or ".." in parts.path.split("/") or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("a source looks like s3://bucket/prefix or modelscope://org/name")
    return value


Source = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_source)]


class Record(BaseModel):
    """The base of all records: unknown keys refused, values fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Toleration(Record):
    """A taint that pods put up with; the field names are Kubernetes'."""

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
