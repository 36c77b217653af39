"""The tags of the images that are built here: content and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox import images
from sandbox.errors import SandboxError
from sandbox.images import build
from slipway.catalog.images import code_digest, code_files, image_parts, image_reference, image_tag

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "include/images/base/Containerfile": "FROM scratch\n",
        "include/images/pause/Containerfile": "ARG BASE=localhost/slipway/base\nFROM ${BASE}\n",
        "include/images/tools/Containerfile": "ARG BASE=localhost/slipway/base\nFROM ${BASE}\n",
        "include/images/tools/requirements.lock": "pydantic==2\n",
        "slipway/__init__.py": "",
        "slipway/weights/fetch.py": "x = 1\n",
        "slipway/operators/steps.py": "import airflow\n",
        "slipway/benchmark/conversations.json": "[]\n",
        "slipway/notes.txt": "for people\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def tag(project: Path, name: str) -> str:
    return image_tag(name, include=project / "include", package=project / "slipway")


def test_the_same_content_elsewhere_has_the_same_tag(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(project / "include", copy / "include")
    shutil.copytree(project / "slipway", copy / "slipway")

    assert tag(copy, "tools") == tag(project, "tools")
    assert code_digest(copy / "slipway") == code_digest(project / "slipway")


def test_bytecode_and_hidden_files_do_not_count(project: Path) -> None:
    before = tag(project, "tools")
    cached = project / "slipway" / "weights" / "__pycache__" / "fetch.cpython-311.pyc"
    cached.parent.mkdir()
    cached.write_bytes(b"code")
    (project / "include" / "images" / "tools" / ".Containerfile.swp").write_text("editor")

    assert tag(project, "tools") == before


@pytest.mark.parametrize(
    ("changed", "others"),
    [
        ("slipway/weights/fetch.py", {"tools": True, "pause": False}),
        ("slipway/operators/steps.py", {"tools": False, "pause": False}),
        ("slipway/benchmark/conversations.json", {"tools": True, "pause": False}),
        ("slipway/notes.txt", {"tools": False, "pause": False}),
        ("include/images/tools/requirements.lock", {"tools": True, "pause": False}),
        ("include/images/base/Containerfile", {"tools": True, "pause": True}),
    ],
)
def test_what_a_change_touches(project: Path, changed: str, others: dict[str, bool]) -> None:
    before = {name: tag(project, name) for name in others}
    with (project / changed).open("a") as file:
        file.write("# changed\n")

    assert {name: tag(project, name) != before[name] for name in others} == others


def test_a_renamed_file_is_another_content(project: Path) -> None:
    before = code_digest(project / "slipway")
    (project / "slipway" / "weights" / "fetch.py").rename(project / "slipway" / "weights" / "get.py")

    assert code_digest(project / "slipway") != before


def test_an_image_without_a_containerfile_is_an_error(project: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tag(project, "nothing")


def test_the_projects_own_images_stand_on_each_other() -> None:
    include = ROOT / "include"

    assert image_parts("pause", include=include) == ["base", "pause"]
    assert image_parts("tools", include=include) == ["base", "tools"]
    assert image_parts("vllm-cpu", include=include) == ["base", "binutils", "vllm-cpu"]


def test_the_tools_image_carries_nothing_that_needs_airflow() -> None:
    package = ROOT / "plugins" / "slipway"
    carried = {path.relative_to(package).parts[0] for path in code_files(package)}

    assert "weights" in carried
    assert "operators" not in carried


def test_the_sandbox_and_resolve_name_the_same_image() -> None:
    for name in images.NAMES:
        expected = image_reference(name, include=ROOT / "include", package=ROOT / "plugins" / "slipway")
        assert images.reference(name) == expected
        assert images.image(name).reference == expected


def test_an_unknown_image_is_one_clear_line() -> None:
    with pytest.raises(SandboxError, match="choose from pause, tools, vllm-cpu"):
        images.ensure_images(["vlm"], log=print)


def test_what_is_in_the_cache_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    built = images.image("pause")
    built.archive.parent.mkdir(parents=True)
    built.archive.touch()

    assert images.ensure_images(["pause"], log=print) == [built]


def test_a_failed_build_is_one_line_and_leaves_nothing_with_a_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path))
    monkeypatch.setattr(images, "require", lambda *programs: None)
    for module in (images, build):
        monkeypatch.setattr(module, "uv", lambda: ["uv"])
        monkeypatch.setattr(module, "buildah", lambda: ["false"])
    monkeypatch.setattr(build, "clean_storage", lambda: None)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "mmdebstrap").write_text("#!/bin/sh\necho E: the mirror does not answer: error 7\nexit 1\n")
    (programs / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    with pytest.raises(SandboxError, match="the mirror does not answer") as raised:
        images.ensure_images(["pause"], log=print)

    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("images/*.tar"))


def test_only_images_that_are_missing_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    (tmp_path / "ctr").write_text(
        f'#!/bin/sh\necho "$*" >> {calls}\ncase "$*" in *list*) echo localhost/slipway/pause:1;; esac\n'
    )
    (tmp_path / "ctr").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    there = images.Image("pause", "localhost/slipway/pause:1", tmp_path / "pause.tar")
    missing = images.Image("tools", "localhost/slipway/tools:2", tmp_path / "tools.tar")

    images.import_images([there, missing], address="/run/c.sock", log=lambda line: None)

    said = calls.read_text()
    assert "pause.tar" not in said
    assert f"--address /run/c.sock --namespace k8s.io images import {tmp_path}/tools.tar" in said


@pytest.mark.parametrize("name", ["tools", "vllm-cpu"])
def test_locks_are_hashed_and_name_no_registry(name: str) -> None:
    lock = (ROOT / "include" / "images" / name / "requirements.lock").read_text()
    requirements = [line for line in lock.splitlines() if line and line[0].isalnum()]

    assert requirements
    assert all("==" in line and line.endswith("\\") for line in requirements)
    assert "://" not in lock
    assert "index-url" not in lock


def test_the_stand_ins_are_assembled_and_linked(tmp_path: Path) -> None:
    """The generator of vllm-cpu's stand-ins, on a library with one symbol of each kind."""
    for program in ("as", "ld", "nm"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    import importlib.util

    source = ROOT / "include" / "images" / "vllm-cpu" / "without_cuda.py"
    spec = importlib.util.spec_from_file_location("without_cuda", source)
    assert spec and spec.loader
    without_cuda = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without_cuda)
    names = [
        "_ZN2at4cuda3runEv",
        "_ZTIN5torch4cuda1AE",
        "_ZTVN5torch4cuda1AE",
        "cudnnGetProperty@libcudnn.so.9",
    ]

    without_cuda.make(tmp_path, "libtorch_cuda.so", names[:3], {"_ZTVN5torch4cuda1AE": ("V", 40)})
    without_cuda.make(tmp_path, "libcudnn.so.9", names[3:], {})

    made = without_cuda.symbols(tmp_path / "libtorch_cuda.so", "--defined-only")
    assert set(names[:3]) <= set(made)
    assert "cudnnGetProperty@libcudnn.so.9" in without_cuda.symbols(
        tmp_path / "libcudnn.so.9", "--defined-only"
    )
    program = "import ctypes, sys; ctypes.CDLL(sys.argv[1])._ZN2at4cuda3runEv()"
    done = subprocess.run(
        [
            "python3",
            "-c",
            "import ctypes; ctypes.CDLL('libstdc++.so.6', 256); " + program,
            tmp_path / "libtorch_cuda.so",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode < 0
    assert done.stderr == "This image has no CUDA: something called _ZN2at4cuda3runEv\n"
