"""Measures of what a model can do, and the report that tells them."""

from tatar_llm.evaluation.suite import Inputs, evaluate

__all__ = ["Inputs", "evaluate"]
