"""The model for other programs: folders that load in their own ecosystem without this package."""

from tatar_llm.export.hf import export_hf

__all__ = ["export_hf"]
