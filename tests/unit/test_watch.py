"""What a pod of the regular probes does: many endpoints are asked, and none of them spoils it for the others."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slipway.probes import client
from slipway.probes import watch as watching
from slipway.probes.orders import ProbeOrder, Sight, WatchedEndpoint, WatchOrder
from slipway.probes.watch import sights_in, watch
from tests.unit.small_runtime import KEY, NAME, Reply, Runtime, serve

CRASHED = {"/v1/completions": lambda body: Reply(500, {"error": {"message": "out of memory"}})}


def watched(name: str, base_url: str, **more: Any) -> WatchedEndpoint:
    order = ProbeOrder(base_url=base_url, served_name=NAME, **{"deadline_seconds": 1, **more})
    return WatchedEndpoint(endpoint=name, probe=order)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "api-key").write_text(f"{KEY}\n")
    return str(tmp_path / "api-key")


def test_each_of_many_endpoints_is_probed_and_a_failing_one_hides_no_other(key_file: str) -> None:
    lines = list[str]()
    with serve(Runtime()) as good, serve(Runtime(replies=dict(CRASHED))) as bad:
        # A busy machine may take a while for forty at once.
        endpoints = [
            watched(f"good-{n}", good, api_key_file=key_file, deadline_seconds=30) for n in range(40)
        ]
        endpoints.append(watched("bad", bad, api_key_file=key_file))
        endpoints.append(watched("without-key", good, api_key_file=f"{key_file}-missing"))
        result = watch(WatchOrder(endpoints=endpoints, at_once=8), say=lines.append)

    seen = {sight.endpoint: sight for sight in sights_in(lines)}
    assert (result.probed, result.failing, len(seen)) == (42, 2, 42)
    assert all(seen[f"good-{n}"].state == "serving" and seen[f"good-{n}"].ttft_seconds for n in range(40))
    assert "out of memory" in seen["bad"].reason
    assert "is empty or not there" in seen["without-key"].reason


def test_endpoints_that_hang_keep_no_other_from_being_asked(key_file: str) -> None:
    answered, lines = threading.Event(), list[str]()

    def hang(body: dict[str, Any]) -> None:
        assert answered.wait(20)

    def say(line: str) -> None:
        lines.append(line)
        if len(list(sights_in(lines))) == 5:
            answered.set()

    with serve(Runtime(replies={"/health": hang})) as hanging, serve(Runtime()) as good:
        more = {"api_key_file": key_file, "request_seconds": 30}
        endpoints = [watched(f"hangs-{n}", hanging, **more) for n in range(5)]
        endpoints += [watched(f"good-{n}", good, **more) for n in range(5)]
        watch(WatchOrder(endpoints=endpoints, at_once=2), say=say)

    names = [sight.endpoint for sight in sights_in(lines)]
    assert sorted(names[:5]) == [f"good-{n}" for n in range(5)]
    assert sorted(names[5:]) == [f"hangs-{n}" for n in range(5)]


def test_a_fault_of_ours_in_one_probe_hides_no_other(monkeypatch: pytest.MonkeyPatch, key_file: str) -> None:
    lines, really = list[str](), watching.probe

    def probe(order: ProbeOrder, **more: Any) -> Any:
        if order.served_name == "strange":
            raise RuntimeError("nobody thought of this")
        return really(order, **more)

    monkeypatch.setattr(watching, "probe", probe)
    with serve(Runtime()) as good:
        endpoints = [watched(f"good-{n}", good, api_key_file=key_file) for n in range(3)]
        strange = endpoints[0].probe.model_copy(update={"served_name": "strange"})
        endpoints.insert(1, WatchedEndpoint(endpoint="strange", probe=strange))
        with pytest.raises(RuntimeError, match="nobody thought of this"):
            watch(WatchOrder(endpoints=endpoints, at_once=1), say=lines.append)

    assert sorted(sight.endpoint for sight in sights_in(lines)) == [f"good-{n}" for n in range(3)]


class Endless(BaseHTTPRequestHandler):
    """Begins an answer and never ends it: a byte now and then, or as many as can be had."""

    piece, pause = b" ", 0.02

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(self.piece)
                time.sleep(self.pause)

    def log_message(self, *args: Any) -> None:
        pass


class Flood(Endless):
    piece, pause = b" " * 65536, 0.0


ENDLESS = [
    (Endless, "the time for all steps together is over"),
    (Flood, "the answer is longer than 1 MiB"),
]


@pytest.mark.parametrize(("handler", "reason"), ENDLESS)
def test_an_answer_without_end_costs_neither_time_nor_memory_without_end(
    handler: type[BaseHTTPRequestHandler], reason: str, monkeypatch: pytest.MonkeyPatch, key_file: str
) -> None:
    monkeypatch.setattr(client, "LARGEST_BODY", 2**20)
    lines = list[str]()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, longest = f"http://127.0.0.1:{server.server_port}", 1.5 if handler is Endless else 30

    order = WatchOrder(
        endpoints=[watched("endless", address, api_key_file=key_file, longest_seconds=longest)]
    )
    result = watch(order, say=lines.append)
    server.shutdown()
    server.server_close()

    [sight] = sights_in(lines)
    assert result.failing == 1 and "at the step 'health'" in sight.reason and reason in sight.reason


def test_an_endpoint_for_which_no_time_is_left_is_not_said_to_have_died(key_file: str) -> None:
    over = threading.Event()

    def hang(body: dict[str, Any]) -> Reply:
        over.wait(20)
        return Reply(503)

    lines = list[str]()
    with serve(Runtime(replies={"/v1/completions": hang})) as slow:
        order = WatchOrder(endpoints=[watched("slow", slow, api_key_file=key_file, longest_seconds=4)])
        watch(order, say=lines.append)
        over.set()

    [sight] = sights_in(lines)
    assert "at the step 'completion'" in sight.reason and "died" not in sight.reason


def test_a_log_that_was_cut_off_still_tells_what_is_whole() -> None:
    whole = Sight(endpoint="a", state="serving", seconds=1.5, ttft_seconds=0.5)
    lines = [
        "something else",
        f"2026-11-21T12:00:00Z sight: {whole.model_dump_json()}",
        'sight: {"endpoint": "b", "sta',
    ]

    assert list(sights_in(lines)) == [whole]
