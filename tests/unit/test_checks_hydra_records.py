"""What Hydra has on record, asked of a server that answers as Hydra's API description says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from slipway.catalog.read import read_catalog
from slipway.checks.findings import Finding
from slipway.checks.hydra_records import belongs_to_hydra, check_hydra_records
from slipway.checks.plan import site_of
from slipway.checks.subject import HydraAccess, ModelNeed, Site
from slipway.checks.view import View
from slipway.errors import UsageError
from tests.unit.servers import serve

KEY = "an-access-key"
QWEN = ModelNeed(
    name="qwen3-0.6b", names=("qwen3-0.6b", "Qwen/Qwen3-0.6B", "Qwen3-0.6B"), vendor=("Alibaba", "通义千问")
)
MODELS = [{"modelId": "m-1", "modelName": "QwQ-32B"}, {"modelId": "Qwen3-0.6B", "modelName": "Qwen3 small"}]
VENDORS = [{"providerId": "1", "providerName": {"enUS": "Alibaba", "zhCN": "通义千问"}, "providerAvatar": ""}]


@contextmanager
def hydra(models: Any = MODELS, vendors: Any = VENDORS, status: int = 200) -> Iterator[str]:
    """Hydra's API with these records; gives its URL."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            lists = {"/apis/hydra.io/v1alpha1/models": models, "/apis/hydra.io/v1alpha1/providers": vendors}
            code = status if self.headers["Authorization"] == f"Bearer {KEY}" else 401
            if parse_qs(parts.query).get("page.pageSize") != ["-1"]:
                code = 400
            self.send_response(code if parts.path in lists else 404)
            self.end_headers()
            answer = lists.get(parts.path)
            body = answer if isinstance(answer, str) else json.dumps({"items": answer, "page": {}})
            self.wfile.write(body.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with serve(Api) as port:
        yield f"http://127.0.0.1:{port}"


def look(url: str, *, token: str = KEY, models: tuple[ModelNeed, ...] = (QWEN,)) -> list[Finding]:
    site = Site.model_validate({"hydra": {"url": url, "token": token}, "models": models})
    return check_hydra_records(View.__new__(View), site)


def test_a_model_and_its_vendor_are_found_under_any_of_their_names() -> None:
    with hydra() as url:
        found = look(url)
    assert [(one.severity, one.about) for one in found] == [
        ("ok", "Model qwen3-0.6b in Hydra"),
        ("ok", "Vendor Alibaba / 通义千问 in Hydra"),
    ]


def test_a_vendor_whose_name_is_one_word_is_found() -> None:
    with hydra(vendors=[{"providerId": "1", "providerName": "alibaba"}]) as url:
        assert {one.severity for one in look(url)} == {"ok"}


FAULTS = {
    "no models": ({"models": []}, "warning", "it has no models at all"),
    "another model": ({"models": MODELS[:1]}, "warning", "Hydra has no model called qwen3-0.6b or"),
    "no vendors": ({"vendors": []}, "warning", "it has no vendors at all"),
    "another vendor": ({"vendors": [{"providerName": "DeepSeek"}]}, "warning", "it has DeepSeek"),
    "vendors called otherwise": ({"vendors": [{"id": "1", "title": "A"}]}, "not checked", "no providerName"),
    "not JSON": ({"models": "<html>"}, "not checked", "answers 200 with something else than a list"),
    "no list": ({"models": {"a": 1}}, "not checked", "something else than a list"),
    "a list of words": ({"models": ["a"]}, "not checked", "something else than a list"),
    "an error": ({"status": 503}, "not checked", "answers 503"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_said(fault: str) -> None:
    settings, severity, words = FAULTS[fault]
    with hydra(**settings) as url:
        told = [one for one in look(url) if one.severity != "ok"]
    assert {one.severity for one in told} == {severity}
    assert any(words in one.reason for one in told), told


def test_a_refused_key_is_said_and_never_quoted() -> None:
    with hydra() as url:
        [told] = look(url, token="wrong-key")
    assert (told.severity, told.reason) == ("not checked", "Hydra refuses the access key (401)")
    assert "wrong-key" not in told.model_dump_json()


def test_a_hydra_that_does_not_answer_is_not_checked_and_named() -> None:
    with hydra() as url:
        gone = url
    [told] = look(gone)
    assert told.severity == "not checked" and told.reason.startswith(f"{gone} does not answer from here: ")


def test_without_a_way_to_ask_the_record_is_named() -> None:
    site = Site(models=(QWEN,))
    [told] = check_hydra_records(View.__new__(View), site)
    assert told.severity == "not checked" and "setup.hydra" in told.remedy
    assert not belongs_to_hydra(site)


def test_the_catalogs_hydra_is_asked_with_the_connections_password(include: Path) -> None:
    catalog = read_catalog(include)
    site = site_of(
        catalog, "hydra-worker", include=include, credentials=lambda name: {"password": f"key of {name}"}
    )
    assert belongs_to_hydra(site) and site.hydra and site.hydra.token
    assert site.hydra.token.get_secret_value() == "key of hydra_console"
    assert "key of" not in repr(site)
    [qwen] = [one for one in site.models if one.name == "qwen3-0.6b"]
    assert {"Qwen/Qwen3-0.6B", "Qwen3-0.6B", "qwen3-0.6b"} <= set(qwen.names)
    assert qwen.vendor == ("Alibaba", "通义千问")


def test_a_connection_that_is_not_there_is_the_reason(include: Path) -> None:
    def lacking(name: str) -> dict[str, str]:
        raise UsageError("no such connection", about=name, remedy="Make it")

    site = site_of(read_catalog(include), "hydra-worker", include=include, credentials=lacking)
    assert site.hydra == HydraAccess(
        url="https://example.com", why="no such connection (hydra_console). Make it"
    )
    [told] = check_hydra_records(View.__new__(View), site)
    assert (told.severity, told.reason) == ("not checked", "no such connection (hydra_console). Make it")
