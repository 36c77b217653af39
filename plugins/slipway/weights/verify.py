"""Are these files a model that a runtime can load? Checked by names before, by content after the download."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slipway.errors import WeightsError
from slipway.weights.manifest import Manifest

CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_INDEXES = (".safetensors.index.json", ".bin.index.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "spiece.model", "vocab.txt")
_TOKENIZER_SUFFIXES = (".tiktoken", "tiktoken.model")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_LONGEST_HEADER = 100_000_000
"""The limit that the safetensors library itself sets for a header, in bytes."""


def check_names(manifest: Manifest) -> None:
    """Refuse a source that cannot be a model, before anything of it is downloaded.

    Raises:
        WeightsError: naming what is missing.
    """
    names = {entry.path for entry in manifest.files}
    missing = []
    if CONFIG not in names:
        missing.append(CONFIG)
    if not any(name.endswith(_WEIGHTS) for name in names):
        missing.append("weights (*.safetensors)")
    if not has_tokenizer(names):
        missing.append("a tokenizer (tokenizer.json or tokenizer.model)")
    if not missing:
        return
    nested = sorted(name for name in names if name.endswith(f"/{CONFIG}"))
    hint = f"it has {nested[0]}: name that directory" if nested else "upload the whole model directory"
    raise WeightsError(
        f"the source is not a complete model: it lacks {', '.join(missing)}",
        about=manifest.source,
        why=f"its {len(names)} files: {', '.join(sorted(names)[:5])}" + (", …" if len(names) > 5 else ""),
        remedy=hint,
    )


def has_tokenizer(names: Iterable[str]) -> bool:
    """Whether one of the files is a tokenizer that a runtime knows."""
    return any(name in _TOKENIZERS or name.endswith(_TOKENIZER_SUFFIXES) for name in names)


def is_index(path: str) -> bool:
    """Whether a file lists the shards of a model."""
    return path.endswith(_INDEXES)


def check_index(file: Path, *, manifest: Manifest) -> None:
    """Check that every shard that an index names is among the files.

    Raises:
        WeightsError: an index that cannot be read, or shards that the source lacks.
    """
    about = f"{manifest.source}: {file.name}"
    weight_map = _read_object(file, about=about).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError("a model's index names no shards", about=about, remedy="upload the model again")
    names = {entry.path for entry in manifest.files}
    missing = sorted({str(shard) for shard in weight_map.values()} - names)
    if missing:
        raise WeightsError(
            "the source lacks shards that the model's index names",
            about=about,
            why=", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else ""),
            remedy="finish the upload",
        )


def check_content(directory: Path, *, manifest: Manifest) -> list[str]:
    """Look into a complete download: config, indexes, safetensors headers, chat template.

    Returns:
        Warnings: what is unusual but does not keep a runtime from serving.

    Raises:
        WeightsError: what a runtime could not load.
    """
    _read_object(directory / CONFIG, about=f"{manifest.source}: {CONFIG}")
    for entry in manifest.files:
        file = directory / entry.path
        if is_index(entry.path):
            check_index(file, manifest=manifest)
        elif entry.path.endswith(".safetensors"):
            check_safetensors(file, about=f"{manifest.source}: {entry.path}")
    names = {entry.path for entry in manifest.files}
    warnings = []
    if not _has_chat_template(directory, names=names):
        warnings.append(
            "no chat template in tokenizer_config.json or chat_template.jinja: chat will be refused, "
            "completions work"
        )
    return warnings


def check_safetensors(file: Path, *, about: str) -> None:
    """Check that a safetensors header fits its file: a truncated shard is found here, not at load time.

    Format: 8 bytes little-endian header length, a JSON header with each tensor's offsets, then the data
    without holes (https://github.com/huggingface/safetensors#format).

    Raises:
        WeightsError: with the two sizes that disagree.
    """
    size = file.stat().st_size
    remedy = "the file in the source is damaged or was cut short: upload it again"
    with file.open("rb") as handle:
        start = handle.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            why = f"its header claims {length} bytes, the file has {size}"
            raise WeightsError("a weights file is not whole", about=about, why=why, remedy=remedy)
        text = handle.read(length)
    try:
        header = json.loads(text)
        ends = [int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise WeightsError(
            "a weights file's header cannot be read", about=about, why=type(error).__name__, remedy=remedy
        ) from error
    expected = 8 + length + max(ends, default=0)
    if expected != size:
        raise WeightsError(
            "a weights file is not whole",
            about=about,
            why=f"its header describes {expected} bytes, the file has {size}",
            remedy=remedy,
        )


def _has_chat_template(directory: Path, *, names: set[str]) -> bool:
    if names & set(_TEMPLATES):
        return True
    if "tokenizer_config.json" not in names:
        return False
    try:
        return bool(json.loads((directory / "tokenizer_config.json").read_bytes()).get("chat_template"))
    except (ValueError, AttributeError):
        return False


def _read_object(file: Path, *, about: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise WeightsError(
            "a file of the model is not JSON", about=about, why=str(error), remedy="upload it again"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError("a file of the model is not a JSON object", about=about, remedy="upload it again")
    return content
