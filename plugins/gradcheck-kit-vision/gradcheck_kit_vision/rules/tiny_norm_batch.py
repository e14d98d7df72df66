from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit.facts import Training
from gradcheck_kit.rule import Bar, listed
from gradcheck_kit_vision.facts import BatchNormValues


@rule("GKV106", needs=(BatchNormValues, Training), explains=("GK205", "GK206", "GK601", "GK603", "GK606"))
def tiny_norm_batch(norms: BatchNormValues, training: Training, *, values: int = 4) -> Iterator[Finding]:
    """BatchNorm takes mean and variance of fewer than `values` numbers, or of one, which ends the epoch with an error.

    Few numbers are an error where the run does not learn, else a warning.
    """
    if training.synthetic:
        raise Skip("the data, and with it the batch, is made up")
    if norms.last_error:
        yield _last(norms)
    few = [layer for layer in norms.layers if not layer.values >= values]
    if not few:
        return
    harm = training.harm
    least = min(few, key=lambda layer: layer.values)
    signs = " Of two numbers it makes -1 and 1, whatever they are." if least.values == 2 else ""
    yield Finding(
        where=least.name,
        message=f"{least.name} ({least.type}) takes mean and variance of {least.values} "
        f"{'number' if least.values == 1 else 'numbers'} per channel, from batches of {norms.batch_size}; at least "
        f"{values} are healthy: the variance of fewer is uncertain by its own size."
        + signs
        + (f" The same in {listed((layer.name for layer in few if layer is not least), 5)}." if len(few) > 1 else "")
        + (f" And {harm}." if harm else ""),
        evidence={"values": least.values, "limit": values, "batch_size": norms.batch_size},
        fixes=(
            f"Use batches of {max(16, 4 * norms.batch_size)} (now {norms.batch_size}).",
            f"Or use GroupNorm in {listed((layer.name for layer in few), 5)}, or "
            "norm_layer=functools.partial(nn.GroupNorm, 8) in torchvision's models that take it: it does not depend "
            "on the batch.",
            "Or freeze them, with .eval() after model.train(), where their statistics are pretrained.",
        ),
        severity=None if harm else "warning",
        profile=tuple(Bar(layer.name, layer.type, float(layer.values)) for layer in norms.layers)
        if 1 < len(norms.layers) <= 12
        else (),
    )


def _last(norms: BatchNormValues) -> Finding:
    return Finding(
        where=norms.last_error_layer,
        message=f"The last batch of every epoch holds 1 sample ({norms.dataset_size:,} in batches of "
        f"{norms.batch_size}), and {norms.last_error_layer} has one number per channel of it: torch raises "
        f'"{norms.last_error}".',
        evidence={"last_batch": 1, "limit": 2, "samples": norms.dataset_size},
        fixes=("Give the training DataLoader drop_last=True.",),
    )
