from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit.facts import binomial_tail
from gradcheck_kit_vision.facts import ImageLayout

SYMPTOMS = ("GK205", "GK501", "GK601", "GK606")


@rule("GKV101", needs=(ImageLayout,), explains=SYMPTOMS)
def channels_misread(layout: ImageLayout, *, chance: float = 0.005) -> Iterator[Finding]:
    """The first convolution reads rows as channels, or pixels that were reshaped from channels-last memory.

    By permutation: rows that are shuffled give another picture, channels do not.
    """
    if layout.colours_last:
        yield from _rows_as_channels(layout, chance)
    elif layout.roughness is not None and layout.roughness_if_reshaped is not None:
        yield from _reshaped(layout)
    else:
        raise Skip(f"what enters {_layer(layout)}, {_shape(layout)}, is not known to be colour images")


def _rows_as_channels(layout: ImageLayout, chance: float) -> Iterator[Finding]:
    if layout.row_chance is None or layout.column_chance is None:
        raise Skip("the order of rows was not tested")
    _, rows, columns, colours = layout.shape
    # Without the proof nothing is said, and a chance that is NaN is none.
    if not (layout.row_chance <= chance and layout.column_chance <= chance):
        raise Skip(f"the order along dimension 1 of {_shape(layout)} carries no information: it may well be channels")
    yield Finding(
        where=layout.layer or "model",
        message=f"{_layer(layout)} takes images of shape {_shape(layout)} and reads dimension 1 as {rows} channels, "
        f"but the {'colour is' if colours == 1 else f'{colours} colours are'} in the last dimension, and dimension 1 "
        f"holds rows: in another order neighbours are less alike (p = {layout.row_chance:.3g}; up to {chance:g} is "
        "proof). So the kernel slides over columns and colours, and takes all rows at once.",
        evidence={
            "row_chance": layout.row_chance,
            "column_chance": layout.column_chance,
            "limit": chance,
            "shape": list(layout.shape),
        },
        fixes=(
            f"Give the model x.permute(0, 3, 1, 2), of shape ({colours}, {rows}, {columns}) per image, and make "
            f"{layout.layer or 'the first convolution'} with in_channels={colours} (now {rows}).",
            "Or let transforms.ToTensor() or v2.ToImage() make the tensor: they put the channels first.",
        ),
    )


def _reshaped(layout: ImageLayout) -> Iterator[Finding]:
    rough, other = layout.roughness, layout.roughness_if_reshaped
    assert rough is not None
    assert other is not None
    if not (isfinite(rough) and isfinite(other)):
        raise Skip("the images are not finite (see non-finite-input)")
    # Noise is as rough both ways; a picture read rightly is smoother than the same memory read otherwise.
    surely = binomial_tail(layout.smoother_if_reshaped, layout.compared, 0.5) < 1e-6
    if not (surely and layout.smoother_if_reshaped >= 0.95 * layout.compared and other < 0.5 * rough):
        return
    _, channels, rows, columns = layout.shape
    yield Finding(
        where=layout.layer or "model",
        message=f"The images that enter {_layer(layout)}, of shape {_shape(layout)}, are scrambled: they are pixels of "
        f"({rows}, {columns}, {channels}) images whose memory was reshaped, not permuted. Read back as that, "
        f"{layout.smoother_if_reshaped} of {layout.compared} of them are smoother: neighbouring pixels differ by "
        f"{other:.2g} of what noise does, and by {rough:.2g} as they are (below {0.5 * rough:.2g} is proof).",
        evidence={
            "roughness": rough,
            "roughness_if_reshaped": other,
            "limit": 0.5 * rough,
            "samples": layout.smoother_if_reshaped,
        },
        fixes=(
            f"Use x.reshape(-1, {rows}, {columns}, {channels}).permute(0, 3, 1, 2) in place of "
            f"x.reshape(-1, {channels}, {rows}, {columns}), or x.permute(0, 3, 1, 2) where x has that shape already.",
        ),
    )


def _layer(layout: ImageLayout) -> str:
    return f"{layout.layer or 'the model'} (Conv2d)"


def _shape(layout: ImageLayout) -> str:
    return f"(N, {', '.join(map(str, layout.shape[1:]))})"
