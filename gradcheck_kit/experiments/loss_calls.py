"""Which loss functions of torch's one training step calls: a class, a function and a user's own wrapper look alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import LossCall, LossCalls, Transcripts
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.workspace import workspace

FUNCTIONS = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy", "ctc_loss")
ARGUMENTS = {"ctc_loss": ("input", "target", "input_lengths", "target_lengths", "blank")}  # of others: with a weight
MOST = 8  # calls that are kept


def watch_loss_calls(probe: Probe) -> LossCalls:
    """The classification losses that torch provides, as they are called for the first batch."""
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        with _Watch() as watch:
            _, loss = work.step(batch)
        if not watch.seen:
            raise NotApplicable("the training step calls none of torch's classification losses")
        calls = tuple(_call(name, given, loss) for name, given in watch.seen)
    return LossCalls(calls)


class _Watch(TorchFunctionMode):
    """Keeps the arguments of the losses; what they call inside is not seen, because torch disables the mode there."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in FUNCTIONS and func is getattr(torch.nn.functional, name) and len(self.seen) < MOST:
            given = dict(zip(ARGUMENTS.get(name, ("input", "target", "weight")), args, strict=False)) | (kwargs or {})
            self.seen.append((name, given | {"result": result}))
        return result


def _call(name: str, given: dict[str, Any], loss: Tensor) -> LossCall:
    if name == "ctc_loss":  # whose first argument is called otherwise
        given = {"input": given.get("log_probs"), "target": given.get("targets"), **given}
    scores, target, result = given["input"].detach(), given["target"].detach(), given["result"]
    values = target.double() if target.device.type != "mps" else target.float()
    empty = values.numel() == 0
    sums = None
    if name == "cross_entropy" and target.is_floating_point() and target.ndim and not empty:
        totals = values.sum(1 if target.ndim > 1 else 0)
        sums = (float(totals.min()), float(totals.max()))
    return LossCall(
        function=name,
        input_shape=tuple(scores.shape),
        target_shape=tuple(target.shape),
        target_dtype=str(target.dtype).removeprefix("torch."),
        target_minimum=None if empty else float(values.min()),
        target_maximum=None if empty else float(values.max()),
        target_sum=sums,
        weighted=given.get("weight") is not None or given.get("pos_weight") is not None,
        reduction=str(given.get("reduction", "mean")),
        is_the_loss=isinstance(result, Tensor) and result.numel() == 1 and result.grad_fn is not None
        and (result is loss or loss.grad_fn is result.grad_fn or _only_reshaped(loss, result)),
        value=float(result.detach()) if isinstance(result, Tensor) and result.numel() == 1 else None,
        chance=_of_zeros(name, given),
        transcripts=_transcripts(given) if name == "ctc_loss" else None,
    )  # fmt: skip


def _of_zeros(name: str, given: dict[str, Any]) -> float | None:
    """What the loss is of scores that are all zero, by the loss itself: with its weights and its smoothing."""
    if not name.endswith(("cross_entropy", "_with_logits")):
        return None
    # Autocast, which would bring what it is given to one type, is over.
    half = (torch.float16, torch.bfloat16)
    arguments = {
        key: value.detach().float() if isinstance(value, Tensor) and value.dtype in half else value
        for key, value in given.items()
        if key != "result"
    }
    scores = arguments.pop("input").detach()
    result = getattr(torch.nn.functional, name)(torch.zeros_like(scores), **arguments)
    return float(result) if result.numel() == 1 else None


def _transcripts(given: dict[str, Any]) -> Transcripts:
    """The targets of a CTC loss, padded, of shape (n, s), or one after the other, each cut to its length.

    A symbol that follows itself needs a step between the two (Graves et al. 2006).
    """
    targets, lengths = given["target"].detach().cpu(), torch.as_tensor(given["target_lengths"]).cpu().reshape(-1)
    steps = torch.as_tensor(given["input_lengths"]).cpu().reshape(-1)
    if targets.ndim == 2:
        rows = [row[: int(length)] for row, length in zip(targets, lengths, strict=True)]
    else:
        rows = list(targets.split([int(length) for length in lengths]))
    needed = [len(row) + int((row[1:] == row[:-1]).sum()) for row in rows]
    symbols = torch.cat(rows)
    return Transcripts(
        symbols=len(symbols),
        blanks=int((symbols == int(given.get("blank", 0))).sum()),
        outside=int(((symbols < 0) | (symbols >= given["input"].shape[-1])).sum()),
        samples=len(rows),
        too_long=sum(need > int(step) for need, step in zip(needed, steps, strict=True)),
    )


def _only_reshaped(loss: Tensor, result: Tensor) -> bool:
    """A scalar that was viewed as a scalar is still the same number."""
    node = loss.grad_fn
    while node is not None and node.name().startswith(("ViewBackward", "ReshapeAliasBackward", "UnsafeViewBackward")):
        node = node.next_functions[0][0]
    return node is result.grad_fn
