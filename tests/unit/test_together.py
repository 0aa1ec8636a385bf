"""Which arms' rows go through an llm in one batch."""

import pytest
import torch

from r2g import together
from r2g.together import Rows


def rows(*sizes: tuple[int, int], device: str = "meta") -> list[Rows]:
    return [(torch.zeros(count, length, 2, device=device), None) for count, length in sizes]


def test_rows_of_one_length_go_in_one_batch() -> None:
    assert together.alike(rows((4, 50), (8, 50), (1, 50))) == [[0, 1, 2]]


def test_rows_of_nearly_one_length_go_in_one_batch_and_others_do_not() -> None:
    found = together.alike(rows((4, 50), (4, 100), (4, 48), (4, 98)))
    assert sorted(map(sorted, found)) == [[0, 2], [1, 3]]


def test_a_batch_is_no_larger_than_keeps_a_device_busy_but_a_part_is_never_cut() -> None:
    found = together.alike(rows((32, 60), (32, 60), (32, 60), (900, 60)))
    assert sorted(map(sorted, found)) == [[0, 1], [2], [3]]
    on_cpu = together.alike(rows((4, 60), (4, 60), (4, 60), (32, 60), device="cpu"))
    assert sorted(map(sorted, on_cpu)) == [[0, 1], [2], [3]]


def test_nothing_to_read_is_no_batch() -> None:
    assert together.alike([]) == []


@pytest.mark.parametrize("seed", range(20))
def test_each_part_goes_once_and_little_of_any_batch_is_padding(seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    sizes = [tuple(torch.randint(1, 90, (2,), generator=drawn).tolist()) for _ in range(12)]
    found = together.alike(rows(*sizes))
    assert sorted(i for batch in found for i in batch) == list(range(12))
    for batch in found:
        text = sum(sizes[i][0] * sizes[i][1] for i in batch)
        room = sum(sizes[i][0] for i in batch) * max(sizes[i][1] for i in batch)
        assert room - text <= 0.05 * room
