"""The tiny model: the same bytes each time, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import model
from sandbox.errors import SandboxError

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not model.LICENCES.is_dir(), reason="no Debian: the tokenizer's texts aren't here"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "tiny"
    model.make_model(made)
    return made


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_another_process_makes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    subprocess.run([sys.executable, "-m", "sandbox.model", str(again)], cwd=ROOT, check=True)

    assert digests(again) == digests(folder)


def test_it_has_what_a_server_reads(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]
    assert "random" in (folder / "README.md").read_text()


def test_the_weights_fit_the_config_and_are_finite(folder: Path) -> None:
    import numpy
    from safetensors import deserialize

    config = json.loads((folder / "config.json").read_text())
    tensors = dict(deserialize((folder / "model.safetensors").read_bytes()))

    assert tensors["model.embed_tokens.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    assert len([name for name in tensors if name.endswith("q_proj.weight")]) == config["num_hidden_layers"]
    for tensor in tensors.values():
        values = numpy.frombuffer(bytes(tensor["data"]), dtype="<u2").astype("<u4") << 16
        assert numpy.isfinite(values.view("<f4")).all()


def test_the_tokenizer_reads_any_text(folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "A slipway is a ramp. Ein Slip — 船台 🚢\n"

    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.encode("<|im_end|>").ids == [
        json.loads((folder / "config.json").read_text())["eos_token_id"]
    ]


def test_the_chat_template_ends_where_the_answer_begins(folder: Path) -> None:
    import jinja2

    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    said = environment.from_string(template).render(
        messages=[{"role": "user", "content": "hello"}], add_generation_prompt=True
    )

    assert said == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("data")

    with pytest.raises(SandboxError, match="name a new or an empty folder"):
        model.make_model(tmp_path)
    assert (tmp_path / "mine").read_text() == "data"


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "LICENCES", tmp_path / "none")

    with pytest.raises(SandboxError, match="base-files"):
        model.make_model(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_it_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path))
    first = model.tiny_model()
    made = first.stat().st_mtime_ns

    assert model.tiny_model() == first
    assert first.stat().st_mtime_ns == made
