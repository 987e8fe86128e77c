from itertools import product
from types import SimpleNamespace

import pytest

pytest.importorskip("triton")

from fimp.ops import _triton_blocks
from fimp.ops._triton_blocks import bucket, configs, fixed, in_one_block, of_queries, of_sources

SHAPES = list(product((1, 16, 50, 64, 197, 256, 1024), (1, 16, 64, 130, 5000), (3, 64, 128, 256), (2, 4, 8)))


def arguments(tokens, sources, width, itemsize, precision="ieee", **more):
    return {
        "query": SimpleNamespace(element_size=lambda: itemsize),
        "T_BUCKET": bucket(tokens),
        "S_BUCKET": bucket(sources),
        "BLOCK_D": bucket(width),
        "BLOCK_DV": bucket(width),
        "PRECISION": precision,
        **more,
    }


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
@pytest.mark.parametrize("choose", [of_queries, of_sources])
def test_every_shape_has_some_choices_and_not_too_many(choose, precision):
    every = configs()
    for tokens, sources, width, itemsize in SHAPES:
        given = arguments(tokens, sources, width, itemsize, precision)
        found = choose(every, {}, **given)
        assert 1 <= len(found) <= 16, (tokens, sources, width, itemsize)
        for choice in found:
            m, n = choice.kwargs["BLOCK_M"], choice.kwargs["BLOCK_N"]
            assert m <= bucket(tokens)
            assert n <= bucket(sources)
            # What is walked over is held several times.
            held, walked = (m, n) if choose is of_queries else (n, m)
            assert (held + choice.num_stages * walked) * 2 * bucket(width) * itemsize <= _triton_blocks._SHARED_BYTES


def test_a_source_in_one_block_is_one_in_every_choice():
    every, seen = configs(), set()
    for tokens, sources, width, itemsize in SHAPES:
        given = arguments(tokens, sources, width, itemsize)
        seen.add(in_one_block(given))
        if in_one_block(given):
            found = of_queries(every, given, FIND_WORTH=True, ADD_GRAD=True)
            assert found
            assert {choice.kwargs["BLOCK_N"] for choice in found} == {bucket(sources)}
    assert seen == {True, False}


@pytest.mark.parametrize(("count", "size"), [(0, 16), (1, 16), (16, 16), (17, 32), (1000, 1024)])
def test_buckets_are_powers_of_two_that_hold_all(count, size):
    assert bucket(count) == size


def test_without_timing_blocks_hold_short_sequences_whole():
    assert fixed(3, 40) == (16, 64)
    assert fixed(1000, 1000) == (64, 64)
