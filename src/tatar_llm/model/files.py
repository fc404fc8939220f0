"""Model files: a plain dictionary of tensors and plain values that loads with ``torch.load(weights_only=True)``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from tatar_llm.config import GPTConfig, as_dict, field_names
from tatar_llm.device import find_device
from tatar_llm.errors import TatarLLMError
from tatar_llm.model.network import GPT
from tatar_llm.model.stock import is_hf_folder, load_hf_file
from tatar_llm.workspace import whole_file


def save_model(path: str | Path, model: GPT, **facts: Any) -> None:
    """Write weights (fp32), config and plain `facts` (step, val, tokenizer_sha256, language, corpus), whole or not."""
    weights = {name: value.detach().to("cpu") for name, value in model.state_dict().items()}
    if model.config.tie_weights:
        del weights["head.weight"]
    with whole_file(path) as temporary:
        torch.save({"model": weights, "config": as_dict(model.config), **facts}, temporary)


def load_model_file(path: str | Path) -> dict[str, Any]:
    """Read and check a model file or a Hugging Face folder; raises TatarLLMError naming what is wrong with it."""
    path = Path(path)
    if is_hf_folder(path):
        return load_hf_file(path)
    if not path.is_file():
        raise TatarLLMError(f"no model at {path}: train one with `tatar-llm train`, or see `tatar-llm runs`")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # a damaged file leads torch to almost any, OSError (EINVAL) for one that is cut off
        raise TatarLLMError(f"{path} is not a readable model file (cut off, or not made by this program)") from error
    if not isinstance(content, dict) or not {"model", "config"} <= content.keys():
        raise TatarLLMError(f"{path} holds no model of tatar-llm (keys model and config are missing)")
    return content


def load_model(model_path: str | Path, device: str = "auto") -> tuple[GPT, GPTConfig]:
    """Load a trained network from a model file or a Hugging Face folder, in evaluation mode, on `device` (auto, cpu, cuda, mps).

    Returns:
        The model and its config.

    Raises:
        TatarLLMError: no such file, a damaged one, or weights that do not fit the config.
    """
    content = load_model_file(model_path)
    try:
        values = {key: value for key, value in content["config"].items() if key in field_names(GPTConfig)}
        config = dataclasses.replace(GPTConfig(**values), dropout=0.0)
        weights = dict(content["model"])
        if sum(value.numel() for value in weights.values()) != config.parameters():  # before memory is taken for what the config says
            raise KeyError(f"{config.parameters():,} parameters are expected")
        model = GPT(config)
        if config.tie_weights:
            weights["head.weight"] = weights["embedding.weight"]
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise TatarLLMError(f"{model_path}: the weights do not fit the config ({str(error).splitlines()[0]})") from error
    return model.to(find_device(device)).eval(), config
