"""Several models' studies through one llm: training and writing, each model's rows as they would be alone."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from r2g.config.schema import DecodeSettings
from r2g.llms.base import LanguageModel
from r2g.model import Batch, ReportGenerator, write

# Embeddings [batch, text, llm] and their mask [batch, text]. Not spelled as shapes: parts differ in both axes.
Rows = tuple[Tensor, Tensor | None]
_PADDING = 0.05  # of a training batch's positions, at most
# Positions of a training batch beyond which a device gets no busier: what more of them take is memory.
_POSITIONS, _POSITIONS_CPU = 4096, 512


def most_positions(device: str) -> int:
    """Positions that a training batch of several arms has at most, on a device of this type."""
    return _POSITIONS_CPU if device == "cpu" else _POSITIONS


def alike(parts: Sequence[Rows]) -> list[list[int]]:
    """Indices of parts that go through an llm in one batch: of so nearly one length that little of it is padding.

    Padding is computed like text. A part goes to those before it, from long to short, as long as the batch's padding
    stays below `_PADDING` and its size below what keeps the device busy.
    """
    most = most_positions(parts[0][0].device.type) if parts else 0
    order = sorted(range(len(parts)), key=lambda i: -parts[i][0].shape[1])
    found: list[list[int]] = []
    room = used = 0
    for i in order:
        count, length = parts[i][0].shape[:2]
        longest = parts[found[-1][0]][0].shape[1] if found else 0
        wider, fuller = room + count * longest, used + count * length
        if found and wider <= most and wider - fuller <= _PADDING * wider:
            found[-1].append(i)
            room, used = wider, fuller
        else:
            found.append([i])
            room = used = count * length
    return found


def hidden(llm: LanguageModel, parts: Sequence[Rows]) -> list[Tensor]:
    """The last hidden states of each part (embeddings, mask), from one forward; short rows are padded on the right.

    No row sees another one, and none sees what stands to its right: the padding changes nothing.
    """
    return list(llm.hidden(*joined(parts, left=False)).split([len(rows) for rows, _ in parts]))


@torch.no_grad()
def reports(
    models: Sequence[ReportGenerator], batches: Sequence[Batch], decode: DecodeSettings
) -> list[list[str]]:
    """One report a study, model by model, written in one go. The models share their llm's network."""
    parts = [model.prefix(batch) for model, batch in zip(models, batches, strict=True)]
    texts = iter(write(models[0].llm, *joined(parts, left=True), decode))
    return [[next(texts) for _ in rows] for rows, _ in parts]


def joined(parts: Sequence[Rows], left: bool) -> Rows:
    """All rows below each other, padded to the longest. On the left, padding needs a mask; on the right it doesn't."""
    if len(parts) == 1:
        return parts[0]
    longest = max(rows.shape[1] for rows, _ in parts)
    uneven = any(rows.shape[1] < longest for rows, _ in parts)
    masked = any(mask is not None for _, mask in parts) or (left and uneven)
    dtype = parts[0][0].dtype
    gaps = [longest - rows.shape[1] for rows, _ in parts]
    sides = [(gap, 0) if left else (0, gap) for gap in gaps]
    whole = [F.pad(rows.to(dtype), (0, 0, *side)) for (rows, _), side in zip(parts, sides, strict=True)]
    if not masked:
        return torch.cat(whole), None
    masks = [
        F.pad(rows.new_ones(rows.shape[:2], dtype=torch.bool) if mask is None else mask, side)
        for (rows, mask), side in zip(parts, sides, strict=True)
    ]
    return torch.cat(whole), torch.cat(masks)
