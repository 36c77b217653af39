"""Makes a tiny Qwen3 for tests and the demo: real formats, a real tokenizer, and words that are random.

Nothing can be downloaded from a model hub on many machines where Slipway is tried, so the model is made here:
seeded weights in safetensors, a BPE tokenizer trained on licence texts that every Debian has, a chat template.
Every file is the same bit for bit at each run, so its digests can be compared. Needs numpy, safetensors and
tokenizers; neither torch nor transformers.

    python -m sandbox.model DIR
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxError

NAME = "tiny-qwen3"
LICENCES = Path("/usr/share/common-licenses")
TEXTS = ("Apache-2.0", "GPL-2", "GPL-3", "LGPL-2.1", "MPL-2.0")
SEED = 20261121
VOCABULARY = 2048
HIDDEN = 256
LAYERS = 4
HEADS = 4
KEY_VALUE_HEADS = 2
HEAD_SIZE = 64
INTERMEDIATE = 512
CONTEXT = 4096
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, TURN_START, TURN_END)
# Wide enough that no word is always the likeliest, small enough that nothing overflows in half precision.
SPREAD_EMBEDDING = 1.0
SPREAD_LAYER = 0.06
SPREAD_HEAD = 0.2
# The one hidden number that no layer writes to: through it the output layer, which has no bias, gets one.
CONSTANT = 0
NEVER = -40.0

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

README = """# A tiny Qwen3 whose words are random

This model was made on this machine by `python -m sandbox.model`, from a fixed seed. It was never trained: what it says
means nothing. Its formats, its tokenizer and the way it is served are real, which is what the demo and the tests
need. To serve a model that makes sense, name one in the catalog: a path, an S3 prefix or a ModelScope id.
"""


def tiny_model() -> Path:
    """The model's folder in the cache, made when it isn't there yet.

    The folder's name is a hash of this script and of the texts that the tokenizer is trained on.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(_text().encode())
    root = os.environ.get("SLIPWAY_CACHE")
    cache = Path(root) if root else Path.home() / ".cache" / "slipway"
    folder = cache / "models" / f"{NAME}-{digest.hexdigest()[:12]}"
    if not folder.exists():
        try:
            make_model(folder)
        except OSError:
            # Another process made the same model in the meantime.
            if not folder.exists():
                raise
    return folder


def make_model(folder: Path) -> None:
    """Make the model in a new folder, all of it or nothing.

    Raises:
        SandboxError: the folder has something in it, or a package or the texts are missing.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SandboxError(f"{folder} is there already: name a new or an empty folder")
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        for name, content in _files().items():
            path = part / name
            path.write_bytes(content)
            path.chmod(0o644)
        part.chmod(0o755)
        # rename(2) replaces an empty folder and no other.
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _files() -> dict[str, bytes]:
    """Every file of the model by name."""
    tokenizer, can_be_said = _tokenizer()
    return {
        "README.md": README.encode(),
        "config.json": _json(_config()),
        "generation_config.json": _json(
            {
                "bos_token_id": 0,
                "do_sample": True,
                "eos_token_id": [2, 0],
                "pad_token_id": 0,
                "temperature": 0.7,
                "top_p": 0.95,
            }
        ),
        "model.safetensors": _weights(can_be_said),
        "tokenizer.json": tokenizer.encode(),
        "tokenizer_config.json": _json(
            {
                "add_prefix_space": False,
                "bos_token": None,
                "chat_template": CHAT_TEMPLATE,
                "clean_up_tokenization_spaces": False,
                "eos_token": TURN_END,
                "model_max_length": CONTEXT,
                "pad_token": END_OF_TEXT,
                "tokenizer_class": "PreTrainedTokenizerFast",
            }
        ),
    }


def _config() -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "max_window_layers": LAYERS,
        "model_type": "qwen3",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
    }


def _tokenizer() -> tuple[str, list[bool]]:
    """tokenizer.json, and for each token whether the model may say it.

    Byte-level, so that any input can be read. Lone bytes and control tokens are never said: an answer is then
    always whole characters.
    """
    try:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise _missing("tokenizers") from error
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_text().splitlines(keepends=True), trainer=trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SandboxError(f"The texts in {LICENCES} are too short for the tokenizer: reinstall base-files")
    words = (tokenizer.decode([token]) for token in range(VOCABULARY))
    return tokenizer.to_str(pretty=False), [
        word.isascii() and word.isprintable() and word != "" for word in words
    ]


def _weights(can_be_said: Sequence[bool]) -> bytes:
    """model.safetensors in bfloat16."""
    try:
        import numpy
        from safetensors import TensorSpec, serialize
    except ImportError as error:
        raise _missing("numpy and safetensors") from error
    random = numpy.random.Generator(numpy.random.PCG64(SEED))

    def some(rows: int, columns: int, spread: float) -> Any:
        return random.standard_normal((rows, columns), dtype=numpy.float32) * numpy.float32(spread)

    def ones(size: int) -> Any:
        return numpy.ones(size, dtype=numpy.float32)

    def writes_to_hidden(columns: int) -> Any:
        weight = some(HIDDEN, columns, SPREAD_LAYER)
        weight[CONSTANT] = 0
        return weight

    embedding = some(VOCABULARY, HIDDEN, SPREAD_EMBEDDING)
    embedding[:, CONSTANT] = SPREAD_EMBEDDING
    head = some(VOCABULARY, HIDDEN, SPREAD_HEAD)
    head[:, CONSTANT] = [0.0 if said else NEVER for said in can_be_said]
    tensors = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": ones(HIDDEN),
        "lm_head.weight": head,
    }
    for layer in range(LAYERS):
        of_layer = {
            "input_layernorm": ones(HIDDEN),
            "self_attn.q_proj": some(HEADS * HEAD_SIZE, HIDDEN, SPREAD_LAYER),
            "self_attn.k_proj": some(KEY_VALUE_HEADS * HEAD_SIZE, HIDDEN, SPREAD_LAYER),
            "self_attn.v_proj": some(KEY_VALUE_HEADS * HEAD_SIZE, HIDDEN, SPREAD_LAYER),
            "self_attn.q_norm": ones(HEAD_SIZE),
            "self_attn.k_norm": ones(HEAD_SIZE),
            "self_attn.o_proj": writes_to_hidden(HEADS * HEAD_SIZE),
            "post_attention_layernorm": ones(HIDDEN),
            "mlp.gate_proj": some(INTERMEDIATE, HIDDEN, SPREAD_LAYER),
            "mlp.up_proj": some(INTERMEDIATE, HIDDEN, SPREAD_LAYER),
            "mlp.down_proj": writes_to_hidden(INTERMEDIATE),
        }
        tensors |= {f"model.layers.{layer}.{name}.weight": value for name, value in of_layer.items()}
    # bfloat16 is the upper half of a float32; adding 0x8000 rounds to the nearest. numpy has no such type, so
    # safetensors is given the buffers themselves: `halves` keeps them alive.
    halves = {
        name: ((value.view(numpy.uint32) + 0x8000) >> 16).astype("<u2")
        for name, value in sorted(tensors.items())
    }
    specs = {
        name: TensorSpec(
            dtype="bfloat16", shape=value.shape, data_ptr=value.ctypes.data, data_len=value.nbytes
        )
        for name, value in halves.items()
    }
    return bytes(serialize(specs, {"format": "pt"}))


def _text() -> str:
    """What the tokenizer is trained on."""
    try:
        return "".join((LICENCES / name).read_text(encoding="utf-8") for name in TEXTS)
    except OSError as error:
        raise SandboxError(f"{error.filename} can't be read: it comes with Debian's base-files") from error


def _json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()


def _missing(packages: str) -> SandboxError:
    return SandboxError(f"Making the model needs {packages}: pip install -r requirements.txt")


def main(arguments: Sequence[str]) -> int:
    """Make the model in the folder that the person names."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m sandbox.model DIR", file=sys.stderr)
        return 2
    try:
        make_model(Path(arguments[0]))
    except SandboxError as error:
        print(error, file=sys.stderr)
        return error.status
    print(f"{arguments[0]}: a tiny Qwen3 whose words are random")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
