import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fimp.data.masking import EVALUATION, Masking, TokenSampler
from fimp.data.matrix import normalize_counts

maskings = st.builds(
    Masking,
    tokens=st.integers(1, 12),
    ratio=st.floats(0.05, 1.0),
    zeros=st.sampled_from([0.0, 0.0, 0.3, 0.5, 0.9]),
    visible_total=st.sampled_from([None, None, 20.0]),
)
seeds = st.integers(0, 10**6)
epochs = st.integers(EVALUATION, 50)


def counts_table(seed, cells=9, genes=14, rate=1.0):
    """Counts with an empty cell, a cell with one gene and a cell with all genes."""
    counts = np.random.default_rng(seed).poisson(rate, (cells, genes)).astype(np.float32)
    counts[0] = 0
    counts[1] = 0
    counts[1, 3] = 2
    counts[2] += 1
    return counts


def make_sampler(masking, seed=0, counts=None):
    counts = counts_table(seed) if counts is None else counts
    values, scale = normalize_counts(sparse.csr_matrix(counts))
    return TokenSampler(values, masking, seed, scale)


def rows(tokens):
    """What each cell shows, without padding: comparable between batches of other widths."""
    depth = tokens.depth.nan_to_num(nan=-1e9).tolist()
    return [
        (depth[index], *(part[index][tokens.mask[index]].tolist() for part in tokens[:-1]))
        for index in range(len(tokens.mask))
    ]


def is_well_formed(tokens, sampler, cells):
    genes, targets, values, mask, hidden, _ = tokens
    truth = sampler.values[cells].toarray()
    for index in range(len(cells)):
        real = int(mask[index].sum())
        # Hidden tokens first, then visible ones, then padding.
        assert mask[index, :real].all()
        assert hidden[index, : int(hidden[index].sum())].all()
        assert not hidden[index, real:].any()
        drawn = genes[index, :real].tolist()
        assert len(set(drawn)) == real
        np.testing.assert_array_equal(targets[index, :real], truth[index, drawn])
    assert not genes[~mask].any()
    assert not targets[~mask].any()
    # Never a value where it is hidden or padded.
    assert not values[hidden | ~mask].any()
    assert (genes.dtype, targets.dtype, values.dtype) == (torch.int64, torch.float32, torch.float32)


@given(maskings, seeds, epochs, st.booleans())
def test_draws_are_well_formed(masking, seed, epoch, hide):
    sampler = make_sampler(masking, seed)
    cells = np.arange(9)
    is_well_formed(sampler.draw(cells, epoch, hide), sampler, cells)


@given(maskings, seeds, epochs, st.lists(st.integers(0, 8), min_size=1, max_size=12), st.booleans())
def test_a_cells_draw_depends_on_neither_batch_nor_order(masking, seed, epoch, batch, hide):
    sampler = make_sampler(masking, seed)
    everyone = rows(sampler.draw(np.arange(9), epoch, hide))
    assert rows(sampler.draw(np.array(batch), epoch, hide)) == [everyone[cell] for cell in batch]


@given(maskings, seeds, st.integers(0, 7), st.lists(st.integers(0, 8), min_size=1, max_size=12))
def test_a_cells_pass_depends_on_neither_batch_nor_order(masking, seed, index, batch):
    sampler = make_sampler(masking, seed)
    everyone = rows(sampler.draw_pass(np.arange(9), index))
    assert rows(sampler.draw_pass(np.array(batch), index)) == [everyone[cell] for cell in batch]


@given(maskings, seeds, epochs)
def test_the_hidden_share_is_rounded_to_the_nearest_token(masking, seed, epoch):
    tokens = make_sampler(masking, seed).draw(np.arange(9), epoch)
    n = tokens.mask.sum(1).numpy()
    np.testing.assert_array_equal(tokens.hidden.sum(1), np.floor(masking.ratio * n + 0.5))


def test_eighty_percent_are_hidden_by_default():
    masking = Masking(tokens=10)
    tokens = make_sampler(masking, counts=np.ones((3, 30), np.float32)).draw(np.arange(3))
    assert tokens.mask.sum(1).tolist() == [10, 10, 10]
    assert tokens.hidden.sum(1).tolist() == [8, 8, 8]


@given(st.integers(1, 20), seeds, epochs)
def test_as_many_expressed_genes_as_fit_are_drawn_and_no_others(width, seed, epoch):
    sampler = make_sampler(Masking(tokens=width), seed)
    tokens = sampler.draw(np.arange(9), epoch)
    expressed = np.diff(sampler.values.indptr)
    np.testing.assert_array_equal(tokens.mask.sum(1), np.minimum(expressed, width))
    assert (tokens.targets[tokens.mask] > 0).all()


@given(st.integers(1, 12), st.sampled_from([0.2, 0.5, 0.75]), seeds, epochs)
def test_zeros_are_drawn_from_genes_that_the_cell_does_not_express(width, zeros, seed, epoch):
    sampler = make_sampler(Masking(tokens=width, zeros=zeros), seed)
    tokens = sampler.draw(np.arange(9), epoch)
    expressed = np.diff(sampler.values.indptr)
    want = min(round(width * zeros), width - 1)  # a cell always shows something of itself
    is_zero = tokens.mask & (tokens.targets == 0)
    np.testing.assert_array_equal(is_zero.sum(1), np.minimum(want, 14 - expressed))
    np.testing.assert_array_equal((tokens.mask & ~is_zero).sum(1), np.minimum(width - want, expressed))


def test_zeros_are_hidden_as_often_as_expressed_genes():
    counts = np.zeros((400, 40), np.float32)
    counts[:, :20] = 3
    tokens = make_sampler(Masking(tokens=20, ratio=0.5, zeros=0.5), counts=counts).draw(np.arange(400))
    share = tokens.hidden[tokens.targets == 0].float().mean()
    # 4,000 zero tokens, so the standard deviation is below 0.01.
    assert abs(share - 0.5) < 0.04


def test_epochs_and_seeds_draw_anew_and_evaluation_is_fixed():
    counts = np.ones((6, 40), np.float32)
    sampler = make_sampler(Masking(tokens=10), counts=counts)
    draws = [rows(sampler.draw(np.arange(6), epoch)) for epoch in (EVALUATION, 0, 1)]
    other = TokenSampler(sampler.values, sampler.masking, 1).draw(np.arange(6))
    assert draws[0] != draws[1] != draws[2] != draws[0]
    assert rows(other) != draws[0]
    assert rows(sampler.draw(np.arange(6))) == draws[0]


def test_every_gene_is_drawn_and_hidden_equally_often():
    sampler = make_sampler(Masking(tokens=10), counts=np.ones((50, 40), np.float32))
    drawn, hidden = np.zeros(40), np.zeros(40)
    for epoch in range(40):
        tokens = sampler.draw(np.arange(50), epoch)
        drawn += np.bincount(tokens.genes[tokens.mask], minlength=40)
        hidden += np.bincount(tokens.genes[tokens.hidden], minlength=40)
    # 20,000 tokens over 40 genes: 500 each, standard deviation below 20 (drawn) and 19 (hidden).
    assert np.abs(drawn - 500).max() < 90
    assert np.abs(hidden - 400).max() < 90


def test_cells_with_thousands_of_genes_still_draw_exactly_t():
    # The shortcut that sorts only small keys must never lose a token.
    sampler = make_sampler(Masking(tokens=7), counts=np.ones((200, 3000), np.float32))
    tokens = sampler.draw(np.arange(200), 4)
    assert tokens.mask.sum(1).tolist() == [7] * 200
    assert len(np.unique(tokens.genes)) > 900


@given(maskings, seeds, epochs, st.integers(0, 14))
def test_hidden_counts_never_change_what_is_shown(masking, seed, epoch, extra):
    # The total of a cell is kept, as `--normalize total` may show it; hidden counts trade places.
    counts = counts_table(seed)
    sampler = make_sampler(masking, seed, counts)
    before = sampler.draw(np.arange(9), epoch)
    changed = sampler.values.copy()
    for cell in range(9):
        genes = before.genes[cell][before.hidden[cell] & (before.targets[cell] > 0)].numpy()
        start, stop = changed.indptr[cell : cell + 2]
        touched = np.isin(changed.indices[start:stop], genes)
        changed.data[start:stop][touched] += np.float32(0.1 + extra)
    after = TokenSampler(changed, masking, seed, sampler.scale).draw(np.arange(9), epoch)
    assert torch.equal(before.genes, after.genes)
    assert torch.equal(before.values, after.values)
    assert torch.equal(before.depth.nan_to_num(), after.depth.nan_to_num())
    if (before.hidden & (before.targets > 0)).any():
        assert not torch.equal(before.targets, after.targets)


def test_visible_totals_leave_no_trace_of_hidden_counts_in_the_scale():
    # With counts scaled by their total, doubling hidden counts halves the visible values; here it must not.
    counts = counts_table(3, rate=4.0)
    masking = Masking(tokens=10, ratio=0.6, visible_total=30.0)
    before = make_sampler(masking, 0, counts).draw(np.arange(9))
    more = counts.copy()
    for cell in range(9):
        more[cell, before.genes[cell][before.hidden[cell]]] *= 5
    after = make_sampler(masking, 0, more).draw(np.arange(9))
    assert torch.equal(before.genes, after.genes)
    torch.testing.assert_close(before.values, after.values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(before.depth, after.depth, rtol=1e-4, atol=1e-5, equal_nan=True)
    # The shown counts of a cell sum to the visible total.
    shown = torch.expm1(before.values.double()).sum(1)
    has_visible = (before.mask & ~before.hidden).any(1)
    torch.testing.assert_close(shown[has_visible], torch.full_like(shown[has_visible], 30.0), rtol=1e-5, atol=0)
    assert has_visible.sum() >= 7


def test_without_hiding_all_values_are_shown_as_they_are():
    for visible_total in (None, 30.0):
        tokens = make_sampler(Masking(tokens=20, visible_total=visible_total)).draw(np.arange(9), hide=False)
        assert not tokens.hidden.any()
        assert torch.equal(tokens.values, tokens.targets)


@given(maskings, seeds)
def test_passes_ask_for_every_gene_of_every_cell_and_never_while_it_is_shown(masking, seed):
    sampler = make_sampler(masking, seed)
    cells = np.arange(9)
    asked = np.zeros((9, 14), int)
    for index in range(sampler.passes()):
        tokens = sampler.draw_pass(cells, index)
        is_well_formed(tokens, sampler, cells)
        row = torch.arange(9)[:, None].expand_as(tokens.genes)
        np.add.at(asked, (row[tokens.hidden], tokens.genes[tokens.hidden]), 1)
        # What is shown is expressed, and no more than training shows.
        shown = tokens.mask & ~tokens.hidden
        assert (tokens.targets[shown] > 0).all()
        assert int(shown.sum(1).max()) <= masking.tokens
    assert asked.min() >= 1


def test_passes_show_as_much_as_training_does():
    sampler = make_sampler(Masking(tokens=10), counts=np.ones((4, 14), np.float32))
    for index in range(sampler.passes()):
        tokens = sampler.draw_pass(np.arange(4), index)
        assert (tokens.mask & ~tokens.hidden).sum(1).tolist() == [2] * 4


def test_passes_show_other_genes_in_turn():
    sampler = make_sampler(Masking(tokens=14), counts=np.ones((1, 14), np.float32))
    shown = [
        tuple(tokens.genes[tokens.mask & ~tokens.hidden].tolist())
        for tokens in (sampler.draw_pass(np.arange(1), index) for index in range(sampler.passes()))
    ]
    assert len(set(shown)) > 1


def test_empty_cells_and_empty_batches_have_tables_of_padding():
    sampler = make_sampler(Masking(tokens=5))
    for cells in (np.array([0]), np.array([0, 0]), np.zeros(0, np.int64)):
        for tokens in (sampler.draw(cells), sampler.draw(cells, hide=False)):
            assert tokens.genes.shape == (len(cells), 1)
            assert not tokens.mask.any()


@pytest.mark.parametrize("n", [0, 2, 9])
def test_take_keeps_the_first_cells_of_every_part(n):
    tokens = make_sampler(Masking(tokens=5)).draw(np.arange(9))
    taken = tokens.take(n)
    assert [len(part) for part in taken] == [n] * 6
    for part, kept in zip(tokens, taken, strict=True):
        torch.testing.assert_close(part[:n], kept, rtol=0, atol=0, equal_nan=True)
    assert taken.to(torch.device("cpu")).genes.device.type == "cpu"


@given(maskings, seeds, epochs, st.booleans())
def test_depth_is_the_largest_factor_that_shown_values_are_multiples_of(masking, seed, epoch, hide):
    counts = counts_table(seed, rate=3.0)
    tokens = make_sampler(masking, seed, counts).draw(np.arange(9), epoch, hide)
    for cell in range(9):
        shown = tokens.mask[cell] & ~tokens.hidden[cell] & (tokens.values[cell] > 0)
        if not shown.any():
            assert tokens.depth[cell].isnan()
            continue
        # Read from what is shown and nothing else: multiples of it are whole, and have no divisor in common.
        multiple = np.expm1(tokens.values[cell][shown].double().numpy()) / np.exp(float(tokens.depth[cell]))
        np.testing.assert_allclose(multiple, np.rint(multiple), rtol=1e-4)
        assert np.gcd.reduce(np.rint(multiple).astype(int)) == 1


def test_one_count_shown_tells_the_factor_that_counts_were_scaled_by():
    sampler = make_sampler(Masking(tokens=14))
    tokens = sampler.draw(np.arange(9), hide=False)
    once = (counts_table(0) == 1).any(1)
    assert 3 <= once.sum() < 9
    np.testing.assert_allclose(tokens.depth[once], np.log(sampler.scale[once]), rtol=1e-5)


def test_values_that_are_no_counts_have_no_depth():
    counts = counts_table(0)
    tokens = TokenSampler(sparse.csr_matrix(counts), Masking(), 0).draw(np.arange(9))
    assert tokens.depth.isnan().all()
    assert tokens.visible().depth.shape == tokens.columns(2).depth.shape == (9,)
