"""Measures of what a model can do, and the report that tells them."""

from tatar_llm.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
