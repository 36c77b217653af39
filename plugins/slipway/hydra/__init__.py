"""Runtimes of Hydra (DaoCloud's model service) into the catalog, and back."""

from __future__ import annotations

from slipway.hydra.exporting import Exported, export_runtime
from slipway.hydra.faults import HydraError
from slipway.hydra.importing import Imported, import_runtimes

__all__ = ["Exported", "HydraError", "Imported", "export_runtime", "import_runtimes"]
