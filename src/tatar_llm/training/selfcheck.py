"""Does this device compute what the CPU computes? Asked once, before the first step."""

from __future__ import annotations

import dataclasses

import torch

from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, compiled
from tatar_llm.training.batches import WindowSource
from tatar_llm.training.planner import Plan, autocast_dtype


def self_check(model: GPT, batches: WindowSource, plan: Plan) -> Plan:
    """One batch's loss on the device and as compiled against plain fp32 on the CPU: catches a device that lies."""
    state = batches.state()
    inputs, targets = batches.next(plan.micro_batch)
    batches.restore(state)
    vocabulary = model.config.vocab_size
    if int(inputs.max()) >= vocabulary or int(targets.max()) >= vocabulary:
        raise TatarLLMError("a batch holds ids outside the vocabulary: run `tatar-llm tokenizer` again")
    model.eval()
    device, autocast = model.device, autocast_dtype(plan.precision)
    with torch.no_grad():
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            _, here = model(inputs[:4].to(device), targets[:4].to(device), return_logits=False)
        if device.type != "cpu" or autocast is not None:
            _, there = model.to("cpu")(inputs[:4], targets[:4], return_logits=False)
            model.to(device)
            if abs(float(here) - float(there)) > 0.02 * float(there):
                raise TatarLLMError(
                    f"self-check failed: {device.type} in {plan.precision} computes a loss of {float(here):.4f} where "
                    f"the CPU has {float(there):.4f}. Set TATAR_LLM_DEVICE=cpu or --precision fp32"
                )
            say(f"self-check: loss {float(here):.4f} on {device.type} in {plan.precision}, {float(there):.4f} in fp32")
    if plan.compile:
        try:  # the very shape that training has: another would be compiled anew, with sizes left open
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                model.train()
                _, loss = compiled(model)(inputs.to(device), targets.to(device), return_logits=False)
                loss.backward()
            model.zero_grad(set_to_none=True)
        except Exception as error:  # whatever the compiler's reason, plain execution works
            say(f"torch.compile off: it failed here ({type(error).__name__}); going on without")
            model.zero_grad(set_to_none=True)
            plan = dataclasses.replace(plan, compile=False)
    return plan
