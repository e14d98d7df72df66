"""What the experiments of this pack see. No torch here: rules are listed and judged without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PaddingUse:
    """What a padded batch does to the model in evaluation mode, when only its padding is changed.

    Changes are the largest absolute one over the root mean square of the output, at what is no padding.
    """

    content: str  # what is padded, as forward calls it: "input_ids"
    source: str  # what tells padding: "attention_mask", "padding_idx 0 of embed"
    side: str  # where it is: "right", "left", "both"
    rows: int
    padded_rows: int
    length: int
    mask: str  # what hides the padding: "attention_mask", "src_key_padding_mask of body"; "" when nothing was given
    mask_inverted: bool  # it keeps exactly the padding
    takes_mask: str  # the parameter of forward that a mask could have been given as; "" when there is none
    precision: str  # "float64", or "float32" where the model runs in nothing else
    output: str  # the output that moved most, as the model calls it: "logits"
    per_position: bool  # that output has one row per position
    moved: float  # when what the padding holds is changed; exactly 0 in theory
    moved_rows: int
    module: str  # where it first moves
    module_type: str
    loss_moved: float | None  # the loss, relative to itself, likewise; None: no target is beside it
    shifted: float | None  # when a row is given without its padding; None where that could not be done


@dataclass(frozen=True, slots=True)
class Pair:
    """Two parameters that are, or should be, one: that of an embedding and that of a head, as a rule."""

    name: str
    other: str
    stated: str  # who says that they are one: "config.tie_word_embeddings"; "" nobody, but they hold the same values
    tied: bool
    loaded_apart: bool  # transformers found two in the checkpoint, and left them two
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]
    equal: bool  # all values are the same, to the last bit
    optimized: bool | None  # whether an optimizer of the user's has it; None where the user brought none
    other_optimized: bool | None
    scale: float  # root mean square of the first
    width: int  # of a row of it


@dataclass(frozen=True, slots=True)
class Ties:
    """Parameters that are one under two names, or should be."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class PositionTable:
    """A learned embedding of positions, and which of its rows the losses of training and test batches depend on."""

    name: str
    rows: int
    trained: int  # rows that some training batch reaches
    tested: int  # rows that some test batch reaches
    untrained: tuple[int, ...]  # those that test batches reach and no training batch
    batches: int  # test batches that reach one of those
    pretrained: bool  # its rows are no independent draws: somebody trained them before


@dataclass(frozen=True, slots=True)
class PositionUse:
    """How long sequences are, and what the model knows of positions."""

    tables: tuple[PositionTable, ...]
    train_batches: int
    test_batches: int
    longest: int | None  # input in training or test data; None where nothing states a limit
    longest_in: str  # "training" or "test"
    limit: int | None  # what the configuration states
    limit_name: str  # "max_position_embeddings"


@dataclass(frozen=True, slots=True)
class AttentionSite:
    """One attention, by head: before training and after it, over the same batches in evaluation mode."""

    module: str
    module_type: str
    call: int  # 0 for its first attention, 1 for a second, as of a decoder layer written in one module
    keys: float  # how many a query may look at, on average
    entropy_before: tuple[float, ...]  # nats, mean over queries
    entropy: tuple[float, ...]
    logit_before: tuple[float, ...]  # the largest absolute logit that is not masked
    logit: tuple[float, ...]

    @property
    def place(self) -> str:
        """How a person would point at it."""
        name = self.module or "the model's forward"
        return f"{name} (attention {self.call + 1})" if self.call else name


@dataclass(frozen=True, slots=True)
class AttentionUse:
    """Every attention of the model, in execution order."""

    sites: tuple[AttentionSite, ...]
