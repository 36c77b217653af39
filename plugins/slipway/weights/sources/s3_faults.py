"""What S3 servers and botocore say when something is wrong, in words that tell what to do."""

# ruff: noqa: TID253 - this module itself is imported only when such a source is used
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from slipway.errors import WeightsError, bounded
from slipway.weights.connect import Refused
from slipway.weights.sources.base import TransientError, is_transient, parse_retry_after

RENEWABLE = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "RequestExpired"}
"""Codes that other keys mend."""

_CODE = re.compile(rb"<Code>([^<]{1,100})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,300})</Message>")
_REGION_CODES = {"301", "307", "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"}
_DENIED = {
    "AccessDenied": "the keys are valid but may not list or read here",
    "AllAccessDisabled": "the keys are valid but may not list or read here",
    "403": "the server refused without a reason",
    "InvalidAccessKeyId": "the server does not know the access key id",
    "XAdminUserNotFound": "the server (versitygw) does not know the access key id",
    "SignatureDoesNotMatch": "the secret key is wrong, or a proxy changes requests",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token has to be renewed",
    "RequestExpired": "the signature has expired: is this machine's clock right?",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the server's",
}


@dataclass(frozen=True)
class Fault:
    """A server's answer that says no."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str]


def fault_of(answer: Refused) -> Fault:
    """Read an answer to a request of ours; S3 states its reason as XML, a proxy before it mostly nothing."""
    code, message = _CODE.search(answer.body), _MESSAGE.search(answer.body)
    return Fault(
        answer.status,
        code[1].decode("utf-8", "replace") if code else str(answer.status),
        message[1].decode("utf-8", "replace") if message else "",
        answer.headers,
    )


def explain_range(fault: Fault, *, source: str, path: str, endpoint: str) -> Exception:
    """What a range's refusal means: ``TransientError`` or ``WeightsError``."""
    if fault.status == 412 or fault.code in {"NoSuchKey", "NoSuchVersion", "404", "InvalidRange"}:
        return WeightsError(
            "a file behind the source changed during the download",
            about=f"{source}/{path}",
            why=f"the server answered {fault.code}",
            remedy="start again when the upload is finished",
        )
    if is_transient(fault.status) or fault.code in {"RequestTimeout", "SlowDown"}:
        return TransientError(
            f"{fault.status} {fault.code}", retry_after=parse_retry_after(fault.headers.get("retry-after"))
        )
    return explain_fault(fault, source=source, endpoint=endpoint)


def explain_fault(fault: Fault, *, source: str, endpoint: str) -> WeightsError:
    """What a refusal means that no other try mends."""
    about, message = f"{source} at {endpoint}", bounded(fault.message, limit=160)
    if fault.code == "NoSuchBucket":
        return WeightsError(
            f"there is no bucket {source.split('/')[2]}",
            about=about,
            remedy="correct the source, or make the bucket",
        )
    if fault.code in _REGION_CODES:
        return WeightsError(
            "the bucket is in another region",
            about=about,
            why=message or f"the server answered {fault.code}",
            remedy="name the bucket's region in the model's record, and its own address",
        )
    if fault.code in _DENIED or fault.status == 403:
        return WeightsError(
            "S3 denied access",
            about=about,
            why=f"{fault.code}: {_DENIED.get(fault.code, message)}",
            remedy="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret and their rights",
        )
    return WeightsError(
        "S3 answered with an error", about=about, why=f"{fault.status} {fault.code}: {message}"
    )


def explain_error(error: Exception, *, source: str, endpoint: str) -> WeightsError:
    """What botocore raised while it listed or signed."""
    about = f"{source} at {endpoint}"
    if isinstance(error, ClientError):
        answer, stated = error.response.get("ResponseMetadata", {}), error.response.get("Error", {})
        fault = Fault(
            int(answer.get("HTTPStatusCode", 0)),
            str(stated.get("Code", "unknown")),
            str(stated.get("Message", "")),
            answer.get("HTTPHeaders", {}),
        )
        return explain_fault(fault, source=source, endpoint=endpoint)
    if isinstance(error, NoCredentialsError):
        return WeightsError(
            "there are no S3 credentials",
            about=about,
            remedy="give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the pod from a Secret",
        )
    if isinstance(error, SSLError):
        return WeightsError(
            "the S3 server's certificate is not trusted",
            about=about,
            why=str(error),
            remedy="name the server's CA bundle in AWS_CA_BUNDLE, or put it as ca.crt into the Secret",
        )
    if isinstance(
        error, EndpointConnectionError | ConnectTimeoutError | BotoConnectionError | HTTPClientError
    ):
        return WeightsError(
            "the S3 server cannot be reached",
            about=about,
            why=bounded(str(error), limit=200),
            remedy="check endpoint_url, and that the cluster's network lets this pod out to it",
        )
    return WeightsError("S3 failed", about=about, why=bounded(f"{type(error).__name__}: {error}"))
