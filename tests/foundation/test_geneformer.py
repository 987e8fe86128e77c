import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fimp
from fimp.errors import FIMPError
from fimp.nn import FIMPConv

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "hf_geneformer"
FOLDERS = ("checkpoint", "checkpoint_legacy")
ATOL = 3e-5

pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")

TOKENS = {"<pad>": 0, "<mask>": 1} | {f"ENSG{number}": number for number in range(2, 60)}
MEDIANS = {f"ENSG{number}": 0.5 + number / 10 for number in range(2, 58)}


@pytest.fixture(scope="module")
def golden():
    return {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "golden.npz").items()}


@pytest.fixture
def folder(tmp_path):
    """A copy to damage."""
    copy = tmp_path / "model"
    shutil.copytree(GOLDEN / "checkpoint", copy, copy_function=shutil.copyfile)
    return copy


def change(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def state_of(folder):
    return load_file(folder / "model.safetensors")


def store(folder, state):
    save_file(state, folder / "model.safetensors")


def fails(folder, wanted):
    with pytest.raises(FIMPError, match=wanted) as error:
        fimp.foundation.load(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("name", FOLDERS)
@torch.no_grad()
def test_everything_equals_upstream(golden, name):
    model = fimp.foundation.load(GOLDEN / name)
    ids, real = golden["input_ids"], golden["attention_mask"].bool()
    assert torch.equal(model.token_mask(ids), real)
    states = model.stack.encode(model.embed(ids), real, return_hidden_states=True)
    for found, wanted in zip(states, golden["hidden_states"], strict=True):
        torch.testing.assert_close(found[real], wanted[real], rtol=0, atol=ATOL)
    torch.testing.assert_close(model.token_head(states[-1])[real], golden["logits"][real], rtol=0, atol=ATOL)
    assert isinstance(model.final_norm, torch.nn.Identity)
    assert model.info()["family"] == "geneformer"
    assert model.info()["vocabulary"] == 60


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("aggregate", ["final", "layer"])
@torch.no_grad()
def test_self_loops_alone_give_the_models_own_output(golden, name, aggregate):
    model = fimp.foundation.load(GOLDEN / name)
    ids, real = golden["input_ids"], golden["attention_mask"].bool()
    loops = torch.arange(len(ids)).expand(2, -1)
    out = FIMPConv(model.message(aggregate=aggregate))(model.embed(ids), loops, real)
    torch.testing.assert_close(out[real], golden["hidden_states"][-1][real], rtol=0, atol=ATOL)


@pytest.mark.parametrize("options", [{"tie_word_embeddings": False}, {"hidden_act": "gelu", "type_vocab_size": 3}])
@torch.no_grad()
def test_other_configurations_equal_the_library(tmp_path, options):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20,
        max_position_embeddings=12, **options,
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path)
    model = fimp.foundation.load(tmp_path)
    ids = torch.randint(1, 30, (2, 9))
    types = torch.randint(0, config.type_vocab_size, (2, 9))
    wanted = theirs(ids, token_type_ids=types, output_hidden_states=True)
    states = model.stack.encode(model.embed(ids, types), return_hidden_states=True)
    for found, one in zip(states, wanted.hidden_states, strict=True):
        torch.testing.assert_close(found, one, rtol=0, atol=ATOL)
    torch.testing.assert_close(model.token_head(states[-1]), wanted.logits, rtol=0, atol=1e-4)


def test_a_model_without_head_or_prefix_is_read(folder, golden):
    whole = fimp.foundation.load(folder)
    state = {k.removeprefix("bert."): v for k, v in state_of(folder).items() if not k.startswith("cls.")}
    store(folder, state | {"pooler.dense.weight": torch.zeros(32, 32), "pooler.dense.bias": torch.zeros(32)})
    model = fimp.foundation.load(folder)
    ids = golden["input_ids"]
    torch.testing.assert_close(model.stack.encode(model.embed(ids)), whole.stack.encode(whole.embed(ids)))
    with pytest.raises(FIMPError, match=r"no cls\.predictions"):
        model.token_head(model.embed(ids))


@pytest.mark.parametrize(
    "key",
    [
        "bert.embeddings.position_embeddings.weight",
        "bert.encoder.layer.1.attention.self.key.bias",
        "bert.encoder.layer.0.output.LayerNorm.weight",
        "cls.predictions.bias",
        "cls.predictions.transform.dense.weight",
    ],
)
def test_missing_and_misshaped_keys_are_named(folder, key):
    state = state_of(folder)
    store(folder, {k: v for k, v in state.items() if k != key})
    fails(folder, rf"model\.safetensors: key '{key}' is missing")
    store(folder, {**state, key: torch.zeros(3)})
    fails(folder, rf"key '{key}' has shape \[3\], wanted \[")


def test_unexpected_and_untied_keys_are_named(folder):
    state = state_of(folder)
    store(folder, {**state, "classifier.weight": torch.zeros(2, 32)})
    fails(folder, r"key 'classifier\.weight' with shape \[2, 32\] is unexpected")
    store(folder, {**state, "bert.encoder.layer.2.output.dense.bias": torch.zeros(32)})
    fails(folder, r"key 'bert\.encoder\.layer\.2\.output\.dense\.bias'")
    store(folder, {**state, "cls.predictions.decoder.weight": torch.zeros(60, 32)})
    fails(folder, "tie_word_embeddings")


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ({"num_attention_heads": 5}, r"config\.json: .*heads=5 does not divide dim=32"),
        ({"num_hidden_layers": 3}, r"layer\.2.* is missing"),
        ({"vocab_size": 61}, r"has shape \[60.*\], wanted \[61"),
        ({"hidden_act": "tanh"}, r"config\.json: .*activation='tanh'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"model_type": "bart"}, "model_type 'bart'"),
    ],
)
def test_configurations_that_do_not_fit_are_named(folder, entries, wanted):
    change(folder, **entries)
    fails(folder, wanted)


def test_damaged_files_are_named(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(content)
        fails(folder, r"model\.safetensors")
    path.unlink()
    fails(folder, "no weights")


def test_inputs_that_do_not_fit_are_named(golden):
    model = fimp.foundation.load(GOLDEN / "checkpoint")
    with pytest.raises(FIMPError, match=r"tokens 2\.\.60, wanted 0\.\.59"):
        model.embed(torch.tensor([[2, 60]]))
    with pytest.raises(FIMPError, match="T at most 48"):
        model.embed(torch.zeros(1, 49, dtype=torch.long))
    with pytest.raises(FIMPError, match=r"token_type_ids has tokens 0\.\.2"):
        model.embed(torch.tensor([[2, 3]]), torch.tensor([[0, 2]]))


def with_dictionaries(folder, tokens=TOKENS, medians=MEDIANS, suffix="json"):
    for name, content in (("token_dictionary_gc", tokens), ("gene_median_dictionary_gc", medians)):
        path = folder / f"{name}.{suffix}"
        if suffix == "json":
            path.write_text(json.dumps(content))
        else:
            path.write_bytes(pickle.dumps(content))
    return folder


def by_hand(row, genes, tokens, medians):
    """Rank-value encoding as the paper says it, gene by gene."""
    known = [gene for gene in genes if gene in tokens and gene in medians]
    value = {gene: row[genes.index(gene)] / row.sum() * 10_000 / medians[gene] for gene in known}
    return [tokens[gene] for gene in sorted(known, key=lambda gene: -value[gene]) if value[gene] > 0]


@pytest.mark.parametrize("suffix", ["json", "pkl"])
def test_cells_become_ranks(folder, suffix):
    model = fimp.foundation.load(with_dictionaries(folder, suffix=suffix))
    generator = np.random.default_rng(0)
    genes = [f"ENSG{number}" for number in range(40, 70)]
    counts = generator.poisson(2.0, (5, 30))
    counts[4] = 0
    ids, mask = model.tokenize(counts, genes)
    for row, cell, real in zip(counts[:4], ids, mask, strict=False):
        assert cell[real].tolist() == by_hand(row, genes, TOKENS, MEDIANS)
        assert (cell[~real] == 0).all()
    assert not mask[4].any()
    # A gene's rank depends on the total of genes that the model does not know only where all are scaled.
    again, _ = model.tokenize(counts, genes, total=counts.sum(1) + 100)
    assert torch.equal(again, ids)
    assert model.tokenize(counts[:0], genes)[0].shape == (0, 0)
    short, _ = model.tokenize(counts, genes, max_tokens=4)
    assert torch.equal(short, ids[:, :4])
    assert model.embed(ids).shape == (*ids.shape, 32)
    assert model.match(["ENSG40", "ensg41.2"]).ids.tolist() == [40, 41]


def test_equal_values_keep_the_order_of_genes(folder):
    model = fimp.foundation.load(with_dictionaries(folder, medians=dict.fromkeys(MEDIANS, 2.0)))
    ids, _ = model.tokenize(np.array([[3, 5, 3, 5]]), ["ENSG9", "ENSG8", "ENSG7", "ENSG6"])
    assert ids.tolist() == [[8, 6, 9, 7]]


def test_the_second_release_puts_signs_at_the_ends(folder):
    tokens = {**TOKENS, "<cls>": 58, "<eos>": 59}
    tokens = {name: token for name, token in tokens.items() if name not in ("ENSG58", "ENSG59")}
    model = fimp.foundation.load(with_dictionaries(folder, tokens=tokens))
    genes = [f"ENSG{number}" for number in range(2, 58)]
    ids, mask = model.tokenize(np.ones((1, 56)), genes)
    assert ids.shape == (1, model.max_tokens)
    assert (ids[0, 0], ids[0, -1]) == (58, 59)
    assert mask.all()
    ids, mask = model.tokenize(np.array([[1, 1], [0, 1]]), genes[:2])
    assert ids.tolist() == [[58, 2, 3, 59], [58, 3, 59, 0]]
    assert mask.tolist() == [[True] * 4, [True, True, True, False]]


def test_dictionaries_may_be_given_by_path(folder, tmp_path):
    model = fimp.foundation.load(folder)
    for use in (lambda: model.tokenize(np.ones((1, 1)), ["ENSG5"]), lambda: model.match(["ENSG5"])):
        with pytest.raises(FIMPError, match="give their paths to read_dictionaries"):
            use()
    with_dictionaries(tmp_path, suffix="pkl")
    model.read_dictionaries(tmp_path / "token_dictionary_gc.pkl", tmp_path / "gene_median_dictionary_gc.pkl")
    assert model.tokenize(np.ones((1, 1)), ["ENSG5"])[0].tolist() == [[5]]


@pytest.mark.parametrize(
    ("tokens", "medians", "wanted"),
    [
        ({"ENSG1": 60}, MEDIANS, "tokens up to 60, but the model embeds 60"),
        ({"ENSG1": -1}, MEDIANS, "tokens up to -1"),
        ({"ENSG1": "x"}, MEDIANS, "entry 'ENSG1' is 'x'"),
        ({"ENSG1": 1.5}, MEDIANS, "token of 'ENSG1' is 1.5"),
        ({"ENSG1": float("nan")}, MEDIANS, "token of 'ENSG1' is nan"),
        ([1], MEDIANS, "holds a"),
        (TOKENS, {"ENSG2": 0.0}, "median of 'ENSG2' is 0.0"),
        (TOKENS, {"TP53": 1.0}, "no gene of it is in"),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "pkl"])
def test_dictionaries_that_do_not_fit_are_named(folder, tokens, medians, wanted, suffix):
    fails(with_dictionaries(folder, tokens, medians, suffix), wanted)


def test_a_dictionary_that_would_run_code_runs_nothing(folder):
    made = folder / "made"

    class Evil:
        def __reduce__(self):
            import os

            return os.mkdir, (str(made),)

    with_dictionaries(folder, suffix="pkl")
    (folder / "token_dictionary_gc.pkl").write_bytes(pickle.dumps({"ENSG2": Evil()}))
    fails(folder, r"token_dictionary_gc\.pkl: this pickle asks for .*mkdir")
    assert not made.exists()


def test_two_dictionaries_are_a_question(folder):
    with_dictionaries(folder)
    with_dictionaries(folder, suffix="pkl")
    fimp.foundation.load(folder)
    shutil.copy(folder / "token_dictionary_gc.json", folder / "token_dictionary_other.json")
    fails(folder, "keep the one of this checkpoint")


def test_counts_that_are_none_are_named(folder):
    model = fimp.foundation.load(with_dictionaries(folder))
    with pytest.raises(FIMPError, match="negative, infinite or missing"):
        model.tokenize(np.array([[-1.0]]), ["ENSG5"])
    with pytest.raises(FIMPError, match=r"counts has shape \[1, 2\], wanted \[N, 1\]"):
        model.tokenize(np.ones((1, 2)), ["ENSG5"])
    with pytest.raises(FIMPError, match="none of the 1 genes"):
        model.tokenize(np.ones((1, 1)), ["TP53"])
    with pytest.raises(FIMPError, match=r"total has shape \[2\]"):
        model.tokenize(np.ones((1, 1)), ["ENSG5"], total=[1, 2])
