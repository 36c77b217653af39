"""How S3 is reached: boto3's core for lists and addresses, and the keys that each request is signed with anew.

``botocore`` is that part of boto3 which speaks S3; boto3 itself adds interfaces that cost half a second more at each
start. Credentials are those of a mounted Secret, else what botocore's own chain finds: the environment, a shared file,
a role of the pod (IRSA), the instance's. botocore renews roles by itself, the Secret's files are read for each request.
"""

# ruff: noqa: TID253 - this module itself is imported only when such a source is used
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlsplit, urlunsplit

import botocore.session
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, NoCredentialsError

from slipway.weights.orders import FetchOrder
from slipway.weights.sources.credentials import ca_bundle, credential, renewable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

_KEY_ID, _SECRET_KEY, _SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
_CONNECT_SECONDS = 10
_ATTEMPTS = 4
_SIGNED_SECONDS = 3600
"""A signature is used at once; it holds this long so that clocks may differ."""


@dataclass(frozen=True)
class Keys:
    """What a request is signed with."""

    key_id: str
    secret: str
    token: str | None

    def __repr__(self) -> str:
        return "Keys(…)"


class Access:
    """A client for lists, and signatures for ranges.

    Raises:
        BotoCoreError: the settings cannot be used.
        ValueError: the same, of the endpoint.
    """

    def __init__(self, order: FetchOrder) -> None:
        self._session = botocore.session.get_session()
        self._region = order.s3.region
        self._addresses: dict[str, str] = {}
        # Without a key id of ours all three stay None, and botocore asks its own chain.
        keys = _own_keys()
        self.client = cast(
            "S3Client",
            self._session.create_client(
                "s3",
                endpoint_url=order.s3.endpoint_url,
                region_name=order.s3.region,
                verify=ca_bundle(),
                aws_access_key_id=keys.key_id if keys else None,
                aws_secret_access_key=keys.secret if keys else None,
                aws_session_token=keys.token if keys else None,
                config=Config(
                    signature_version="s3v4",
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=order.stall_seconds,
                    retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
                    s3={"addressing_style": order.s3.addressing},
                    # Whole files are hashed by us: don't pay for it twice.
                    response_checksum_validation="when_required",
                ),
            ),
        )

    def keys(self) -> Keys:
        """The keys as they are now; reading a role's renews it when it is due.

        Raises:
            NoCredentialsError: there are none.
        """
        own = _own_keys()
        if own is not None:
            return own
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        frozen = found.get_frozen_credentials()
        return Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    def keys_now(self) -> Keys | None:
        """The same, or None where there are none any more."""
        try:
            return self.keys()
        except BotoCoreError:
            return None

    def may_be_renewed(self) -> bool:
        """Whether other keys may come while we wait: those of a mounted Secret."""
        return renewable(_KEY_ID, _SECRET_KEY, _SESSION_TOKEN)

    def sign(
        self, *, bucket: str, key: str, version: str | None, headers: Mapping[str, str], keys: Keys
    ) -> str:
        """A URL for one GET, signed together with its headers."""
        request = AWSRequest("GET", self._address(bucket, key, version), headers=dict(headers))
        given = Credentials(keys.key_id, keys.secret, keys.token)
        S3SigV4QueryAuth(given, "s3", self._region, _SIGNED_SECONDS).add_auth(request)
        return str(request.url)

    def _address(self, bucket: str, key: str, version: str | None) -> str:
        if key not in self._addresses:
            signed = self.client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
            self._addresses[key] = urlunsplit(urlsplit(signed)._replace(query=""))
        return self._addresses[key] + (f"?versionId={quote(version, safe='')}" if version else "")


def _own_keys() -> Keys | None:
    key_id = credential(_KEY_ID)
    return Keys(key_id, credential(_SECRET_KEY) or "", credential(_SESSION_TOKEN)) if key_id else None
