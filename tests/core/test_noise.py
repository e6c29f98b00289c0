"""Noise keys: the right generator, addressed so that nothing depends on batch, order or company."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.noise import Noise, _philox, permutation

# The published known-answer vectors of Random123 (tests/kat_vectors, "philox4x32 10"): counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_philox_gives_the_published_words(counter: tuple[int, ...], key: tuple[int, ...], result: tuple[int, ...]) -> None:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    words = _philox((c0, c1, c2, c3), torch.tensor([key[0]]), torch.tensor([key[1]]))
    assert tuple(int(word) for word in words) == result


def test_a_seed_is_the_key_and_the_block_number_the_counter() -> None:
    # So that anyone with a Philox4x32-10 can draw our numbers: key = (low, high word of the seed), counter = (block, 0, 0, 0).
    assert tuple(Noise(0).integers(4)[0].tolist()) == KNOWN[0][2]
    seed = 0xFEDCBA98_76543210
    second = _philox(
        (torch.tensor([1]), *(torch.tensor([0]) for _ in range(3))), torch.tensor([0x76543210]), torch.tensor([0xFEDCBA98])
    )
    assert Noise(seed).integers(8)[0, 4:].tolist() == [int(w) for w in second]


def test_reading_more_does_not_change_what_was_read() -> None:
    noise = Noise(7).fold("a", 1)
    assert torch.equal(noise.integers(101)[:, :37], noise.integers(37))
    assert torch.equal(noise.normal(10)[:, :4], noise.normal(4))  # pairs of normals share words; a cut changes none of them
    assert torch.equal(noise.uniform(3, 4).flatten(), noise.uniform(12).flatten())


def test_a_row_has_its_numbers_in_any_company_and_order() -> None:
    noise = Noise(3).fold("draw", 2)
    alone = {row: noise.rows([row]).normal(5)[0] for row in (0, 5, 2**40)}
    together = noise.rows([2**40, 0, 5])
    assert torch.equal(together.normal(5), torch.stack([alone[2**40], alone[0], alone[5]]))
    assert torch.equal(together[1:].fold("x").normal(2), noise.rows([0, 5]).fold("x").normal(2))
    assert torch.equal(noise.rows(torch.tensor([5])).normal(5)[0], alone[5])


def test_rows_of_rows_take_one_id_each() -> None:
    rows = Noise(0).rows([3, 4])
    assert torch.equal(rows.rows([7, 8]).integers(2)[1], Noise(0).rows([4]).rows([8]).integers(2)[0])
    with pytest.raises(ValueError, match=r"one id for each of the 2 keys, got 3"):
        rows.rows([1, 2, 3])


def test_children_differ_by_name_number_order_and_kind() -> None:
    root = Noise(11)
    children = [
        root,
        root.fold(0),
        root.fold(1),
        root.fold(1, 2),
        root.fold(2, 1),
        root.fold("1"),
        root.fold("a"),
        root.fold("a", 0),
        root.rows([0]),
        root.rows([1]),
        root.fold(-1),
        root.fold(2**32),
        Noise(12),
        Noise(11 + 2**32),
    ]
    assert len({tuple(child.integers(4)[0].tolist()) for child in children}) == len(children)
    assert torch.equal(root.fold("a").fold(3).integers(4), root.fold("a", 3).integers(4))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_permutation_is_one(length: int, seed: int) -> None:
    index = torch.arange(length)
    out = permutation(index, length, Noise(seed))
    assert torch.equal(out.sort().values, index)
    assert torch.equal(permutation(index[length // 2 :], length, Noise(seed)), out[length // 2 :])  # a part alone


def test_permutations_are_spread_over_all_there_are() -> None:
    seen = {tuple(permutation(torch.arange(4), 4, Noise(seed)).tolist()) for seed in range(400)}
    assert len(seen) == 24
    far = permutation(torch.arange(60_000), 60_000, Noise(0)).double()
    assert abs(float(torch.corrcoef(torch.stack([far, torch.arange(60_000).double()]))[0, 1])) < 0.02


def test_uniforms_and_normals_have_their_moments() -> None:
    n = 400_000
    rows = Noise(5).rows(range(100))
    u, z = rows.uniform(n // 100).double().flatten(), rows.fold("z").normal(n // 100).double().flatten()
    assert float(u.min()) > 0 and float(u.max()) < 1
    assert abs(float(u.mean()) - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
    assert abs(float(u.var()) - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float(z.pow(power).mean()) - moment) < 5 * math.sqrt(variance / n)
    assert abs(float((z[::2] * z[1::2]).mean())) < 5 / math.sqrt(n / 2)  # the two of a Box-Muller pair
    assert torch.isfinite(z).all()


def test_below_is_flat_and_stays_below() -> None:
    counts = Noise(1).below(7, 70_000)[0].bincount(minlength=7)
    assert len(counts) == 7 and float((counts - 10_000).abs().max()) < 5 * math.sqrt(10_000)


def test_a_number_fits_a_library_that_wants_a_seed() -> None:
    assert 0 <= Noise(3).number() < 2**32 and Noise(3).number() == Noise(3).number() != Noise(4).number()
