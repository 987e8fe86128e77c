import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import fimp
from fimp.errors import FIMPError
from fimp.foundation.scgpt import bin_values
from fimp.nn import FIMPConv

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "scgpt"
FOLDERS = ("checkpoint", "checkpoint_flash")
ATOL = 2e-5

pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")


@pytest.fixture(scope="module")
def golden():
    arrays = np.load(GOLDEN / "golden.npz")
    return {key: torch.from_numpy(value) for key, value in arrays.items() if value.dtype.kind != "U"}


@pytest.fixture
def folder(tmp_path):
    """A copy to damage."""
    copy = tmp_path / "model"
    shutil.copytree(GOLDEN / "checkpoint", copy, copy_function=shutil.copyfile)
    return copy


def change(folder, **entries):
    path = folder / "args.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (content | entries).items() if v is not None}))


def weights(folder):
    return torch.load(folder / "best_model.pt", weights_only=True)


def fails(folder, wanted):
    with pytest.raises(FIMPError, match=wanted) as error:
        fimp.foundation.load(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def close(found, wanted, real):
    torch.testing.assert_close(found[real], wanted[real], rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("batch", ["tok", "cell"])
@torch.no_grad()
def test_everything_equals_upstream(golden, name, batch):
    model = fimp.foundation.load(GOLDEN / name)
    genes, values = golden[f"{batch}_genes"], golden[f"{batch}_values"]
    real = model.token_mask(genes)
    assert torch.equal(real, ~golden[f"{batch}_padding_mask"])
    h = model.embed(genes, values)
    close(h, golden[f"{batch}_total_embs"], real)
    states = model.stack.encode(h, real, return_hidden_states=True)
    assert len(states) == len(golden[f"{batch}_hidden_states"])
    for found, wanted in zip(states, golden[f"{batch}_hidden_states"], strict=True):
        close(found, wanted, real)
    close(states[-1], golden[f"{batch}_transformer_output"], real)
    close(model.expression_head(states[-1]), golden[f"{batch}_mlm_output"], real)
    cell = states[-1][:, 0]
    close(model.mvc_head(cell, genes), golden[f"{batch}_mvc_output"], real)
    if batch == "tok":
        close(model.embed_genes(genes), golden["tok_gene_embs"], real)
        torch.testing.assert_close(model.classify(cell), golden["tok_cls_output"], rtol=0, atol=ATOL)
    else:
        torch.testing.assert_close(model.cell_embedding(states[-1]), golden["cell_emb_normalised"], rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("aggregate", ["final", "layer"])
@torch.no_grad()
def test_self_loops_alone_give_the_models_own_output(golden, name, aggregate):
    model = fimp.foundation.load(GOLDEN / name)
    genes = golden["cell_genes"]
    real = model.token_mask(genes)
    h = model.embed(genes, golden["cell_values"])
    loops = torch.arange(len(h)).expand(2, -1)
    out = FIMPConv(model.message(aggregate=aggregate))(h, loops, real)
    close(out, golden["cell_transformer_output"], real)


def test_cells_are_tokenized_as_upstream_does(golden):
    model = fimp.foundation.load(GOLDEN / "checkpoint")
    names = np.load(GOLDEN / "golden.npz")["cell_gene_names"].tolist()
    match = model.match(names)
    assert match.report == "genes: the model knows 40 of 40 (40 by name)"
    genes, values, mask = model.tokenize(golden["cell_X"].numpy(), match.ids)
    assert torch.equal(genes, golden["cell_genes"])
    torch.testing.assert_close(values, golden["cell_values"], rtol=0, atol=0)
    assert torch.equal(mask, ~golden["cell_padding_mask"])
    assert (values[:, 0] == model.pad_value).all()
    assert (model.tokenize(golden["cell_X"], match.ids, cls_value=0.0)[1][:, 0] == 0).all()
    short, _, _ = model.tokenize(golden["cell_X"], match.ids, max_tokens=5)
    assert torch.equal(short, genes[:, :5])
    drawn, _, mask = model.tokenize(golden["cell_X"], match.ids, max_tokens=5, rng=np.random.default_rng(0))
    assert mask.all()
    assert all(
        len(set(row.tolist())) == 5 and set(row.tolist()) <= set(full.tolist())
        for row, full in zip(drawn, genes, strict=True)
    )
    assert not torch.equal(drawn, short)
    # A gene that the model does not know is left out, whatever its values.
    ids = match.ids.copy()
    ids[3] = -1
    assert int(match.ids[3]) not in model.tokenize(golden["cell_X"], ids)[0]


def test_the_newest_wrappers_names_are_read(folder, golden):
    state = {
        key.replace("self_attn.in_proj_", "self_attn._impl.Wqkv.").replace("self_attn.out_", "self_attn._impl.out_"): v
        for key, v in weights(folder).items()
    }
    assert any("_impl.out_proj" in key for key in state)
    torch.save(state, folder / "best_model.pt")
    found, wanted = (fimp.foundation.load(path).state_dict() for path in (folder, GOLDEN / "checkpoint"))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    torch.save({f"module.{key}": value for key, value in state.items()}, folder / "best_model.pt")
    found = fimp.foundation.load(folder).state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_weight_of_the_file_is_used(name):
    state = weights(GOLDEN / name)
    model = fimp.foundation.load(GOLDEN / name)
    assert sum(v.numel() for k, v in state.items() if k != "flag_encoder.weight") == model.info()["parameters"]
    assert model.info() == {
        "family": "scgpt",
        "layers": 3,
        "width": 32,
        "heads": 4,
        "parameters": 31634,
        "vocabulary": 43,
        "licence": None,
    }


@pytest.mark.parametrize(
    "key",
    [
        "encoder.embedding.weight",
        "value_encoder.linear2.bias",
        "transformer_encoder.layers.1.self_attn.in_proj_weight",
        "transformer_encoder.layers.2.norm2.bias",
        "decoder.fc.4.bias",
        "mvc_decoder.W.weight",
        "cls_decoder._decoder.2.bias",
        "cls_decoder.out_layer.weight",
        "cls_decoder.out_layer.bias",
    ],
)
def test_missing_and_misshaped_keys_are_named(folder, key):
    state = weights(folder)
    torch.save({k: v for k, v in state.items() if k != key}, folder / "best_model.pt")
    fails(folder, f"best_model.pt: key '{key}' is missing, wanted shape")
    shape = list(state[key].shape)
    torch.save({**state, key: torch.zeros(*shape[:-1], shape[-1] + 1)}, folder / "best_model.pt")
    if not key.startswith("cls_decoder.out_layer.b"):  # its length is the number of classes
        fails(folder, rf"key '{key}' has shape \[.*{shape[-1] + 1}\], wanted \[.*{shape[-1]}\]")


@pytest.mark.parametrize(
    "key",
    [
        "transformer_encoder.layers.3.norm1.weight",
        "transformer_encoder.layers.0.self_attn.Wqkv.weight",
        "dsbn.bns.0.weight",
        "decoder.zero_logit.0.weight",
        "flag_encoder.bias",
    ],
)
def test_unexpected_keys_are_named(folder, key):
    torch.save({**weights(folder), key: torch.zeros(2)}, folder / "best_model.pt")
    fails(folder, key.replace("Wqkv.weight", "(Wqkv|in_proj_)"))


def test_heads_that_are_absent_are_said_to_be_so(folder, golden):
    state = weights(folder)
    state = {k: v for k, v in state.items() if not k.startswith(("mvc_decoder", "cls_decoder"))}
    torch.save(state, folder / "best_model.pt")
    model = fimp.foundation.load(folder)
    h = model.embed(golden["tok_genes"], golden["tok_values"])
    with pytest.raises(FIMPError, match="no mvc_decoder"):
        model.mvc_head(h[:, 0], golden["tok_genes"])
    with pytest.raises(FIMPError, match="no cls_decoder"):
        model.classify(h[:, 0])


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ({"embsize": None}, "'embsize' is missing"),
        ({"embsize": "32"}, "'embsize' is '32'"),
        ({"nheads": 5}, r"args\.json: .*heads=5 does not divide dim=32"),
        ({"nlayers": 4}, "layers.3.* is missing"),
        ({"nlayers": 2}, "layers.2.* is unexpected"),
        ({"d_hid": 64}, r"has shape \[48, 32\], wanted \[64, 32\]"),
        ({"embsize": 64}, "has shape"),
        ({"n_layers_cls": 2}, "cls_decoder"),
        ({"pad_token": "<none>"}, "has no <none>"),
        ({"input_emb_style": "category"}, "input_emb_style is 'category'"),
    ],
)
def test_configurations_that_do_not_fit_are_named(folder, entries, wanted):
    change(folder, **entries)
    fails(folder, wanted)


def test_wrong_vocabularies_are_named(folder):
    path = folder / "vocab.json"
    vocabulary = json.loads(path.read_text())
    cases = [
        ({**vocabulary, "EXTRA": 43}, r"vocab\.json: has 44 names, but best_model\.pt has embeddings of 43"),
        ({k: v for k, v in vocabulary.items() if v < 20}, "has 20 names|has no <"),
        ({k: v for k, v in vocabulary.items() if v != 7}, r"tokens 0\.\.42, wanted each of 0\.\.41 once"),
        ({k: v + 1 for k, v in vocabulary.items()}, r"tokens 1\.\.43"),
        ({k: str(v) for k, v in vocabulary.items()}, "wanted a whole number"),
        ([*vocabulary], "holds a JSON list"),
    ]
    for content, wanted in cases:
        path.write_text(json.dumps(content))
        fails(folder, wanted)
    path.write_text("{")
    fails(folder, r"vocab\.json: not readable as JSON")
    path.unlink()
    fails(folder, r"vocab\.json: not readable")


def test_missing_special_tokens_are_appended(folder):
    path = folder / "vocab.json"
    vocabulary = json.loads(path.read_text())
    special = {"<pad>", "<cls>", "<eoc>"}
    genes = [gene for gene in sorted(vocabulary, key=vocabulary.get) if gene not in special]
    path.write_text(json.dumps({gene: index for index, gene in enumerate(genes)}))
    rows = len(vocabulary)
    assert rows == len(genes) + 3
    model = fimp.foundation.load(folder)
    assert [model.vocabulary[token] for token in ("<pad>", "<cls>", "<eoc>")] == [rows - 3, rows - 2, rows - 1]
    assert (model.pad_id, model.cls_id) == (rows - 3, rows - 2)


def test_damaged_files_are_named(folder):
    path = folder / "best_model.pt"
    whole = path.read_bytes()
    weight = weights(folder)["decoder.fc.0.weight"].numpy().tobytes()
    flipped = whole.replace(weight, weight[:40] + bytes([weight[40] ^ 1]) + weight[41:])
    assert flipped != whole
    for content in (
        b"",
        whole[: len(whole) // 2],
        b"not a checkpoint",
        whole[:100] + b"\0" * 400 + whole[500:],
        flipped,
    ):
        path.write_bytes(content)
        fails(folder, r"best_model\.pt")
    path.unlink()
    fails(folder, r"best_model\.pt")


def test_a_checkpoint_that_would_run_code_runs_nothing(folder):
    made = folder / "made"

    class Evil:
        def __reduce__(self):
            import os

            return os.mkdir, (str(made),)

    torch.save({**weights(folder), "decoder.fc.4.bias": Evil()}, folder / "best_model.pt")
    fails(folder, r"best_model\.pt: .*could run code")
    assert not made.exists()
    # To be sure that it would have.
    torch.load(folder / "best_model.pt", weights_only=False)
    assert made.exists()


def test_inputs_that_do_not_fit_are_named(golden):
    model = fimp.foundation.load(GOLDEN / "checkpoint")
    genes, values = golden["tok_genes"], golden["tok_values"]
    with pytest.raises(FIMPError, match=r"values has shape \[4, 3\]"):
        model.embed(genes, values[:, :3])
    with pytest.raises(FIMPError, match=r"tokens 0\.\.43, wanted 0\.\.42"):
        model.embed(genes.clamp(max=0) + torch.arange(14) // 13 * 43, values)
    with pytest.raises(FIMPError, match=r"type torch\.float32, wanted integers"):
        model.embed(values, values)
    with pytest.raises(FIMPError, match="max_tokens=1"):
        model.tokenize(np.ones((2, 3)), [1, 2, 3], max_tokens=1)
    with pytest.raises(FIMPError, match=r"ids has shape \[2\]"):
        model.tokenize(np.ones((2, 3)), [1, 2])


def test_values_go_into_bins_of_their_own_cell():
    row = np.arange(1.0, 101.0)
    binned = bin_values(np.stack([row, 7 * row]))
    assert np.array_equal(binned[0], binned[1])
    assert (binned[0, 0], binned[0, -1]) == (1, 50)
    assert (np.diff(binned[0]) >= 0).all()
    assert np.bincount(binned[0])[1:].tolist() == [2, *[2] * 49] or np.bincount(binned[0]).max() <= 3
    with_zeros = np.zeros(200)
    with_zeros[::2] = row
    assert np.array_equal(bin_values(with_zeros)[::2], binned[0])
    assert (bin_values(with_zeros)[1::2] == 0).all()
    assert (bin_values(np.zeros((2, 5))) == 0).all()


def test_equal_values_are_drawn_into_the_bins_between_them():
    row = np.array([1.0] * 90 + [2.0] * 10)
    drawn = bin_values(row, rng=np.random.default_rng(0))
    upper = np.digitize(1.0, np.quantile(row, np.linspace(0, 1, 50)))
    assert set(drawn[:90].tolist()) <= set(range(1, upper + 1))
    assert len(set(drawn[:90].tolist())) > 20
    assert drawn[90:].min() > drawn[:90].max()
    middle = bin_values(row)
    assert len(set(middle.tolist())) == 2
    assert np.array_equal(middle, bin_values(row))


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_values_that_are_no_expression_are_refused(value):
    with pytest.raises(FIMPError, match="negative, infinite or missing"):
        bin_values(np.array([1.0, value]))
    with pytest.raises(FIMPError, match="bins=2"):
        bin_values(np.ones(3), bins=2)
