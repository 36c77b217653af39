"""Hydra's runtimes into a folder of the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.catalog.records import Runtime, Task
from slipway.hydra.configuration import read_configuration
from slipway.hydra.document import read_file
from slipway.hydra.faults import HydraError
from slipway.hydra.translating import translate
from slipway.hydra.writing import write_all


@dataclass(frozen=True)
class Imported:
    """A runtime that came from Hydra.

    Attributes:
        runtime: the record.
        path: its file.
        notes: what is different from Hydra, or was not said there, one sentence each; the file has them too.
    """

    runtime: Runtime
    path: Path
    notes: tuple[str, ...]


def import_runtimes(
    files: Sequence[Path],
    *,
    into: Path,
    renamed: Mapping[str, str] | None = None,
    task: Task = "chat",
    replace: bool = False,
) -> list[Imported]:
    """Write the runtimes of Hydra's documents into a catalog's folder: all of them, or none.

    Args:
        files: ``hydra-runtime-template`` and the agents' ``deployment_templates``, in any order and number.
        into: the folder, such as ``include/catalog/runtimes``.
        renamed: names for the catalog, by Hydra's name; for runtimes whose name is taken or not possible there.
        task: what they do; Hydra's documents don't say it.
        replace: whether files of the same name are written over.

    Raises:
        HydraError: something that the catalog cannot hold, with file and line; nothing was written.
    """
    documents = (document for path in files for document in read_file(path))
    found = translate(read_configuration(documents), renamed=renamed or {}, task=task)
    if not found:
        raise HydraError("no runtime", about=", ".join(map(str, files)), remedy="Give a file with templates")
    if not into.is_dir():
        raise HydraError("no such folder", about=str(into))
    texts = {into / f"{one.runtime.name}.yaml": one.text for one in found}
    write_all(texts, replace=replace)
    return [Imported(one.runtime, path, one.notes) for one, path in zip(found, texts, strict=True)]
