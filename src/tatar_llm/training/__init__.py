"""Training: the one loop, what feeds it, what it leaves behind."""

from tatar_llm.training.runs import ModelPlace, Run, find_model, find_run, list_runs

__all__ = ["ModelPlace", "Run", "find_model", "find_run", "list_runs"]
