"""What a person relies on who brings runtimes from Hydra: all of it arrives, or a line says what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.catalog.read import read_catalog
from slipway.catalog.records import Runtime
from slipway.errors import SlipwayError
from slipway.hydra import HydraError, Imported, import_runtimes
from slipway.hydra.writing import yaml_text
from slipway.manifests.arguments import fill
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render
from tests.unit.test_hydra.hydra_known import DOCUMENTS, VALUES, Go

CONFIG, AGENT = DOCUMENTS / "config.yaml", DOCUMENTS / "agent.yaml"
FULL = DOCUMENTS / "full.yaml"
VARIABLES = VALUES | {"TP_SIZE": 2}
Read = Callable[..., dict[str, Imported]]


@pytest.fixture
def runtimes(tmp_path: Path) -> Path:
    folder = tmp_path / "runtimes"
    folder.mkdir()
    return folder


@pytest.fixture
def read(runtimes: Path) -> Read:
    """Import files into an empty folder: the results by name."""

    def apply(*files: Path, **options: Any) -> dict[str, Imported]:
        return {one.runtime.name: one for one in import_runtimes(files, into=runtimes, **options)}

    return apply


@pytest.fixture
def refusal(tmp_path: Path, runtimes: Path) -> Callable[[str], str]:
    """The message with which a document is refused; nothing is written then."""

    def apply(text: str) -> str:
        path = tmp_path / "given.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(HydraError) as caught:
            import_runtimes([path], into=runtimes)
        message = str(caught.value)
        assert list(runtimes.iterdir()) == []
        assert "\n" not in message and len(message) < 1500 and caught.value.exit_status == 2
        return message.replace(f"{tmp_path}/", "")

    return apply


def test_the_documents_example_becomes_a_runtime(read: Read, runtimes: Path) -> None:
    one = read(CONFIG, AGENT)["vllm-cpu"]

    assert one.runtime.images == {"cpu": "swr.cn-south-1.myhuaweicloud.com/ascendhub/mindie:2.1.RC1"}
    assert one.runtime.display_name == {"zhCN": "vLLM"}
    assert one.runtime.command == ["/bin/bash", "-c"]
    assert one.runtime.distributed and one.runtime.task == "chat" and one.runtime.program is None
    assert one.path == runtimes / "vllm-cpu.yaml"
    assert Runtime.model_validate(yaml.safe_load(one.path.read_text(encoding="utf-8"))) == one.runtime


def test_its_command_is_the_one_that_go_makes_and_custom_arguments_are_quoted(
    read: Read, go: Go, example: str
) -> None:
    runtime = read(CONFIG, AGENT)["vllm-cpu"].runtime
    plain, odd = ["--max-num-seqs=4"], ["--chat-template={% a %}; rm -rf /"]

    assert fill(runtime, VARIABLES, custom_args=plain).args == [
        go(example, {**VARIABLES, "CUSTOM_ARGS": plain})["text"]
    ]
    assert fill(runtime, VARIABLES, custom_args=odd).args[0].endswith(f" '{odd[0]}'")


def test_what_is_different_from_hydra_is_said_in_the_result_and_in_the_file(read: Read) -> None:
    one = read(CONFIG, AGENT)["vllm-cpu"]
    head = one.path.read_text(encoding="utf-8").split("name:")[0].replace("\n#  ", "")

    assert "Quoted for the shell here and not in Hydra: CUSTOM_ARGS, MODEL_NAME, MODEL_PATH." in one.notes
    assert all(note in head for note in one.notes)


def test_everything_of_a_pod_template_arrives(read: Read) -> None:
    given_pod = yaml.safe_load(FULL.read_text(encoding="utf-8"))["templates"][0]["podTemplate"]
    one = read(FULL)["sglang-own"]

    assert one.runtime.init_containers == given_pod["initContainers"]
    assert one.runtime.volumes == given_pod["volumes"]
    assert one.runtime.volumes[1]["configMap"]["defaultMode"] == 0o644
    assert one.runtime.pod_security_context == given_pod["podSecurityContext"]
    assert one.runtime.volume_mounts == given_pod["containerTemplate"]["volumeMounts"]
    assert one.runtime.security_context == given_pod["containerTemplate"]["securityContext"]
    assert one.runtime.ports == {"metrics": 1027, "port-9000": 9000} and one.runtime.port == 8000
    assert one.runtime.images == {
        "nvidia": "docker.io/lmsysorg/sglang:v0.5.4",
        "metax": "registry.example.com:5000/metax/sglang:0.5",
    }
    assert {
        "Port 8000 is named http here and serving in Hydra.",
        "Port 9000 had no name; it is named port-9000.",
    } <= set(one.notes)


def test_arguments_without_a_shell_are_joined_with_the_custom_ones(read: Read) -> None:
    filled = fill(
        read(FULL)["sglang-own"].runtime, VARIABLES | {"TP_SIZE": 1}, custom_args=["--port=8000", "--a=b c"]
    )

    assert filled.command == []
    assert filled.args == [
        "--model-path=/data/serving-model",
        "--host=0.0.0.0",
        "--port=8000",
        "--served-model-name=qwen3",
        "--a=b c",
    ]


def test_a_runtime_with_an_image_alone_takes_the_custom_arguments_alone(read: Read) -> None:
    one = read(FULL)["plain"]

    assert fill(one.runtime, VARIABLES, custom_args=["--a=b"]).args == ["--a=b"]
    assert any(note.startswith("No template") for note in one.notes)


def test_a_shell_and_its_option_in_one_string_are_taken_for_two(read: Read) -> None:
    one = read(FULL)["image-gen-own"]

    assert one.runtime.command == ["/bin/bash", "-c"]
    assert one.runtime.env == {"ASCEND_RT_VISIBLE_DEVICES": "0"}
    assert fill(one.runtime, VARIABLES, custom_args=["a b"]).args == [
        "python3 serve.py --model Qwen/Qwen3-0.6B 'a b'"
    ]


def test_what_kubectl_prints_says_the_same_as_the_bare_files(read: Read, tmp_path: Path) -> None:
    bare = read(CONFIG, AGENT)["vllm-cpu"].runtime
    maps = [
        yaml.safe_load((DOCUMENTS / name).read_text())
        for name in ("config-map.yaml", "agent-config-map.yaml")
    ]
    listed = tmp_path / "list.yaml"
    listed.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": maps}))

    assert (
        read(DOCUMENTS / "config-map.yaml", DOCUMENTS / "agent-config-map.yaml", replace=True)[
            "vllm-cpu"
        ].runtime
        == bare
    )
    assert read(listed, replace=True)["vllm-cpu"].runtime == bare


def test_an_endpoint_can_be_served_by_what_was_imported(include: Path, change: Callable[..., None]) -> None:
    folder = include / "catalog" / "runtimes"
    import_runtimes([CONFIG, AGENT], into=folder, renamed={"vllm-cpu": "vllm-cpu-own"})
    change("endpoints/qwen3-tiny", runtime="vllm-cpu-own", api_key=None)
    catalog = read_catalog(include)
    rendered = render(make_plan(catalog, "qwen3-tiny", include=include), include=include)
    workload = next(one for one in rendered.objects() if one["kind"] in ("StatefulSet", "Deployment"))
    server = workload["spec"]["template"]["spec"]["containers"][0]

    assert catalog.problems == []
    assert server["image"] == "swr.cn-south-1.myhuaweicloud.com/ascendhub/mindie:2.1.RC1"
    assert server["command"] == ["/bin/bash", "-c"]
    assert server["args"][0].startswith("vllm serve /data/serving-model --served-model-name qwen3-tiny")


def test_a_file_that_is_there_stays_as_it_is_and_no_other_is_written(runtimes: Path) -> None:
    (runtimes / "plain.yaml").write_text("mine")

    with pytest.raises(HydraError, match=r"a file is there already .*plain\.yaml"):
        import_runtimes([FULL], into=runtimes)

    assert [path.name for path in runtimes.iterdir()] == ["plain.yaml"]
    assert (runtimes / "plain.yaml").read_text() == "mine"


def test_a_write_that_fails_in_the_middle_leaves_the_folder_as_it_was(
    runtimes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtimes / "sglang-own.yaml").write_text("mine")
    replace = Path.replace

    def no_space(self: Path, target: Path) -> Path:
        if target.name == "plain.yaml":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(HydraError, match="No space left on device"):
        import_runtimes([FULL], into=runtimes, replace=True)

    assert {path.name: path.read_text() for path in runtimes.iterdir()} == {"sglang-own.yaml": "mine"}


def test_memory_at_dev_shm_is_the_runtimes_shared_memory(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    pod = "volumes: [{name: dshm, emptyDir: {medium: Memory, sizeLimit: 10Gi}}, {name: a, emptyDir: {}}]"
    mounts = "[{name: dshm, mountPath: /dev/shm}, {name: a, mountPath: /a}]"
    path.write_text(template(f"        volumeMounts: {mounts}", pod=pod))
    one = read(path)["own"]

    assert one.runtime.shared_memory == "10Gi"
    assert [volume["name"] for volume in one.runtime.volumes] == ["a"]
    assert one.runtime.volume_mounts == [{"name": "a", "mountPath": "/a"}]
    assert "The volume at /dev/shm is shared_memory 10Gi." in one.notes


def test_a_runtime_can_have_another_name_here(read: Read) -> None:
    assert set(read(CONFIG, AGENT, renamed={"vllm-cpu": "vllm-cpu-own"})) == {"vllm-cpu-own"}
    with pytest.raises(HydraError, match="There are: vllm-cpu"):
        read(CONFIG, AGENT, renamed={"vllm": "mine"})


IMAGE = """
deployment_templates:
  - match_runtimes: [own]
    match_gpu_types: [cpu]
    container_template: {image: {registry: docker.io, repository: own/own, tag: v1}}
"""

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\ndata:\n"


def template(container: str = "", *, pod: str = "") -> str:
    text = "templates:\n  - runtime: own\n    podTemplate:\n" + (pod and f"      {pod}\n")
    return text + f"      containerTemplate:\n{container or '        ports: []'}\n" + IMAGE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("template:\n  - runtime: own\n", "the key 'template' of the document is not known (given.yaml:1)"),
        (
            "templates:\n  - runtime: own\n    pod: {}\n" + IMAGE,
            "'pod' of a runtime's template is not known (given.yaml:3)",
        ),
        (template(pod="hostNetwork: true"), "'hostNetwork' of podTemplate is not known (given.yaml:4)"),
        (template("        lifecycle: {}"), "'lifecycle' of containerTemplate is not known (given.yaml:5)"),
        (
            template("        ports: [{containerPort: 80, hostPort: 80}]"),
            "'hostPort' of a port is not known (given.yaml:5)",
        ),
        (
            template("        ports: [{containerPort: 9000, protocol: UDP}]"),
            "protocol is not TCP (given.yaml:5)",
        ),
        (
            template("        ports: [{containerPort: many}]"),
            "no containerPort that is a number (given.yaml:5)",
        ),
        (template("        ports: [{name: metrics, containerPort: 80}]"), "greater than or equal to 1024"),
        (template("        ports: {}\n        ports: {}"), "the key 'ports' is there twice (given.yaml:6)"),
        (
            template("        securityContext: [a]"),
            "securityContext is not a mapping of keys to values (given.yaml:5)",
        ),
        (
            template("        volumeMounts: [a]"),
            "an item of volumeMounts is not a mapping of keys to values (given.yaml:5)",
        ),
        (template("        argsTemplate: --a"), "a list of templates is not a list (given.yaml:5)"),
        (
            template("        argsTemplate: [8000]"),
            "a template is not text (given.yaml:5): YAML reads it as another type. Put it in quotes",
        ),
        (
            template("        argsTemplate:\n          - |\n            a\n            {{ .MODEL }}"),
            "'.MODEL' in a template (given.yaml:8)",
        ),
        (
            template('        argsTemplate:\n          - "a\\n{{ .MODEL }}"'),
            "(given.yaml:6, line 2 of the template)",
        ),
        (
            template("        argsTemplate: [--a_b, '1', --c, '1', --a-b=2]"),
            "the flag --a-b is there twice (given.yaml:5)",
        ),
        (
            template("        argsTemplate: ['{{ range .CUSTOM_ARGS }}{{ . }}{{ end }}']"),
            "an argument puts out CUSTOM_ARGS itself (given.yaml:5)",
        ),
        (
            template(
                "        commandTemplate: [sh, -c]\n        argsTemplate: [a, '{{range .CUSTOM_ARGS}}{{.}}{{end}}']"
            ),
            "args is one string for the shell",
        ),
        (
            template("        commandTemplate: [sh, -c]\n        argsTemplate: [serve]"),
            "does not mention CUSTOM_ARGS",
        ),
        (
            template("        commandTemplate: [sh, -c]\n        argsTemplate: ['echo CUSTOM_ARGS']"),
            "does not put out CUSTOM_ARGS (given.yaml:6)",
        ),
        (
            template(
                "        commandTemplate: [sh, -c]\n"
                "        argsTemplate: [\"'{{.MODEL_NAME}}' {{range .CUSTOM_ARGS}}{{.}}{{end}}\"]"
            ),
            "a value inside single quotes in a shell string (given.yaml:6)",
        ),
        (
            template(
                "        commandTemplate: [/bin/bash, -lc]\n        argsTemplate: ['{{ .MODEL_NAME }}']"
            ),
            "a shell reads an argument that Slipway would not quote (given.yaml:5)",
        ),
        (
            template(
                "        commandTemplate: [python3, -c]\n        argsTemplate: ['{{range .CUSTOM_ARGS}}{{.}}{{end}}']"
            ),
            "-c of a program that is no shell (given.yaml:5)",
        ),
        (
            template("        commandTemplate: [bash, -c, 'serve {{ .MODEL_NAME }}']"),
            "a shell reads an argument that Slipway would not quote (given.yaml:5)",
        ),
        (
            template("        argsTemplate: [bash, -c, 'serve {{ .MODEL_NAME }}']"),
            "a shell reads an argument",
        ),
        (template(f"        argsTemplate: ['{'x' * 10_000}']"), "a template is too long (given.yaml:5)"),
        (
            template(
                "        commandTemplate: ['{{ range .CUSTOM_ARGS }}{{ . }}{{ end }}']\n        argsTemplate: [a]"
            ),
            "a command asks for CUSTOM_ARGS (given.yaml:5)",
        ),
        (template(pod="volumes: [{name: scratch, emptyDir: {}}]"), "a volume named scratch (given.yaml:4)"),
        (template("        volumeMounts: [{name: a, mountPath: /tmp/}]"), "a mount at /tmp (given.yaml:5)"),
        (
            template("        volumeMounts: [{name: a, mountPath: /dev/shm}]"),
            "a mount at /dev/shm that is not memory of its own (given.yaml:5)",
        ),
        ("templates:\n  - runtimeZH: a\n" + IMAGE, "a runtime's template has no runtime (given.yaml:2)"),
        ("templates:\n  - runtime: 1.10\n" + IMAGE, "runtime is not text (given.yaml:2): YAML reads it"),
        (
            "templates:\n  - runtime: Own_1\n" + IMAGE.replace("own]", "Own_1]"),
            "cannot hold (given.yaml:2, name)",
        ),
        ("templates:\n  - runtime: own\n", "runtime 'own' has no image (given.yaml:2)"),
        (
            "templates:\n  - runtime: own\n  - runtime: own\n" + IMAGE,
            "runtime 'own' is there twice (given.yaml:3)",
        ),
        (IMAGE.replace("tag: v1", "tag: 1.10"), "tag is not text (given.yaml:5)"),
        (IMAGE.replace(", tag: v1", ""), "image has no tag (given.yaml:5)"),
        (
            IMAGE.replace("[cpu]", "[tpu]"),
            "the GPU type 'tpu' is not known (given.yaml:4). Known are: cpu, nvidia-gpu",
        ),
        (IMAGE.replace("[cpu]", "[]"), "has no match_gpu_types (given.yaml:3)"),
        (
            IMAGE + IMAGE.replace("\ndeployment_templates:", "").replace("v1", "v2"),
            "two images for cpu (given.yaml:7)",
        ),
        (
            IMAGE.replace("v1}", "v1}, args: [a]"),
            "the key 'args' of container_template is not known (given.yaml:5)",
        ),
        (
            IMAGE.replace("v1}", "v1}, env: [{name: A, valueFrom: {}}]"),
            "'valueFrom' of a variable of env is not known",
        ),
        (
            IMAGE
            + IMAGE.replace("\ndeployment_templates:", "").replace("v1}", "v1}, env: [{name: A, value: b}]"),
            "another env than in given.yaml:3 (given.yaml:7)",
        ),
        ("apiVersion: v1\nkind: Secret\n", "a Secret is not a ConfigMap (given.yaml:2)"),
        (
            CONFIG_MAP + "  config.yaml: |\n    templates:\n      - runtime: own\n        a: 1\n",
            "'a' of a runtime's template is not known (given.yaml:7)",
        ),
        (
            'apiVersion: v1\nkind: ConfigMap\ndata:\n  config.yaml: "templates:\\n- a: 1\\n"\n',
            "(given.yaml:4, line 2 of config.yaml)",
        ),
        ("apiVersion: v1\nkind: ConfigMap\ndata: {}\n", "no runtime (given.yaml)"),
        ("", "no runtime (given.yaml)"),
        ("- a\n", "the document is not a mapping"),
        ("a: [", "not YAML (given.yaml:"),
        ("a: \x07", "not YAML (given.yaml:1)"),
        ("templates: !!python/object/apply:os.system ['true']\n", "templates is not a list (given.yaml:1)"),
        ("templates: !x [a]\n", "templates is not a list (given.yaml:1)"),
        (
            template("        securityContext: {runAsUser: !!binary aGFsbG8=}"),
            "cannot be carried over (given.yaml:5)",
        ),
        (
            template("        securityContext: {a: 2026-01-01}"),
            "cannot be carried over (given.yaml:5): 2026-01-01. Put it in quotes",
        ),
        (template("        securityContext: {a: 1:30}"), "cannot be carried over (given.yaml:5): 1:30"),
        (template("        securityContext: {1: a}"), "a key is not text (given.yaml:5)"),
        (template("        securityContext: {? [a] : b}"), "a key is not text (given.yaml:5)"),
        ("a: &a [x]\nb: *a\n", "an alias (given.yaml:2)"),
        ("a: &a [*a]\n", "an alias (given.yaml:1)"),
        ("a: " + "[" * 100_000, "nested deeper than 64 levels (given.yaml:1)"),
        ("{a: " * 5000, "nested deeper than 64 levels (given.yaml:1)"),
        ("templates:\n  - runtime: " + "a" * 10_000 + "\n", "has no image"),
        ("? " + "k" * 10_000 + "\n: 1\n", "of the document is not known (given.yaml:1)"),
    ],
)
def test_what_the_catalog_cannot_hold_is_refused_with_its_line(
    refusal: Callable[[str], str], text: str, message: str
) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: \x00", b"#" * 5_000_000])
def test_a_file_that_is_no_text_is_one_line(runtimes: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "given.yaml"
    path.write_bytes(content)

    with pytest.raises(HydraError, match=r"given\.yaml"):
        import_runtimes([path], into=runtimes)
    with pytest.raises(HydraError, match="cannot be read"):
        import_runtimes([tmp_path / "missing.yaml"], into=runtimes)
    with pytest.raises(HydraError, match="no such folder"):
        import_runtimes([FULL], into=tmp_path / "missing")


@settings(deadline=None)
@given(
    damage=st.lists(
        st.tuples(
            st.integers(0, 2400),
            st.integers(0, 12),
            st.text(alphabet="{}[]-: \n\t\"'!&*|>#%@`\\a1\x00é", max_size=4),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_document_is_imported_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int, str]]
) -> None:
    text, folder = FULL.read_text(encoding="utf-8"), tmp_path_factory.mktemp("damaged")
    for at, gone, put in damage:
        text = text[:at] + put + text[at + gone :]
    path = folder / "given.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        found = import_runtimes([path], into=folder)
    except SlipwayError as error:
        assert "\n" not in str(error) and "given.yaml" in str(error)
        return

    for one in found:
        assert Runtime.model_validate(yaml.safe_load(one.path.read_text(encoding="utf-8"))) == one.runtime


@settings(deadline=None)
@given(
    value=st.recursive(
        st.text() | st.booleans() | st.integers(-9, 9) | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    comment=st.text(),
)
def test_what_is_written_reads_back_as_it_was(value: Any, comment: str) -> None:
    text = yaml_text({"a": value}, comments=[comment])

    assert yaml.safe_load(text) == {"a": value}
    assert json.dumps(yaml.safe_load(text)) == json.dumps({"a": value})
