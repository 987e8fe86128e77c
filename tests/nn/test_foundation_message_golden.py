"""Messages of real checkpoints against loops over the modules that their authors use."""

from pathlib import Path

import pytest
import torch

import fimp
from fimp.nn import FIMPConv

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
MODES = ("final", "layer")
pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")


@pytest.mark.parametrize("aggregate", MODES)
@pytest.mark.parametrize("folder", ["checkpoint", "checkpoint_flash"])
def test_one_edge_of_scgpt_equals_a_loop_over_torchs_modules(folder, aggregate):
    """Two nodes, different tokens and lengths, one edge; weights straight from the file, in torch's own layers."""
    path = GOLDEN / "scgpt" / folder
    model = fimp.foundation.load(path)
    state = torch.load(path / "best_model.pt", weights_only=True)
    state = {key.replace("Wqkv.", "in_proj_"): value for key, value in state.items()}
    layers = []
    for number in range(3):
        layer = torch.nn.TransformerEncoderLayer(32, 4, 48, 0.0, batch_first=True)
        prefix = f"transformer_encoder.layers.{number}."
        layer.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        layers.append(layer)
    own_ids, other_ids = torch.arange(7)[None], torch.arange(20, 31)[None]
    own = model.embed(own_ids, torch.rand(1, 7)).detach()
    other = model.embed(other_ids, torch.rand(1, 11)).detach()
    source, message = other, own
    for layer in layers:
        attended = layer.self_attn(message, source, source, need_weights=False)[0]
        message = layer.norm1(message + attended)
        message = layer.norm2(message + layer.linear2(torch.relu(layer.linear1(message))))
        source = layer(source)
    check_one_edge(model, aggregate, own, other, message)


@pytest.mark.parametrize("aggregate", MODES)
@pytest.mark.parametrize("folder", ["checkpoint", "checkpoint_legacy"])
def test_one_edge_of_bert_equals_a_loop_over_its_own_modules(folder, aggregate):
    transformers = pytest.importorskip("transformers")
    path = GOLDEN / "hf_geneformer" / folder
    model = fimp.foundation.load(path)
    theirs = transformers.BertForMaskedLM.from_pretrained(path, attn_implementation="eager").eval().bert
    own_ids, other_ids = torch.arange(2, 9)[None], torch.arange(20, 31)[None]
    with torch.no_grad():
        own, other = theirs.embeddings(own_ids), theirs.embeddings(other_ids)
        source, message = other, own
        for layer in theirs.encoder.layer:
            parts = layer.attention.self

            def heads(x):
                return x.view(1, -1, 4, 8).transpose(1, 2)

            query, key, value = parts.query(message), parts.key(source), parts.value(source)
            weights = (heads(query) @ heads(key).transpose(2, 3) / 8**0.5).softmax(-1)
            context = (weights @ heads(value)).transpose(1, 2).flatten(2)
            attended = layer.attention.output(context, message)
            message = layer.output(layer.intermediate(attended), attended)
            source = layer(source)
            source = source[0] if isinstance(source, tuple) else source
    torch.testing.assert_close(model.embed(own_ids), own, rtol=0, atol=1e-6)
    check_one_edge(model, aggregate, own, other, message)


def check_one_edge(model, aggregate, own, other, wanted):
    """The edge goes from the second node to the first; the first is padded to the second's length."""
    length, more = own.size(1), other.size(1) - own.size(1)
    h = torch.cat([torch.nn.functional.pad(own, (0, 0, 0, more), value=9.0), other])
    mask = torch.arange(other.size(1)) < torch.tensor([[length], [other.size(1)]])
    conv = FIMPConv(model.message(aggregate=aggregate))
    out = conv(h, torch.tensor([[1], [0]]), mask)
    torch.testing.assert_close(out[:1, :length], wanted, rtol=0, atol=2e-5)
    assert (out[1] == 0).all()
    assert (out[0, length:] == 0).all()
    # The other direction, and the node's own output, are something else.
    swapped = conv(h, torch.tensor([[0], [1]]), mask)
    assert (swapped[0] == 0).all()
    assert (model.stack.encode(own) - wanted).abs().max() > 1e-2
    # Without padding, from one set of nodes to another.
    bipartite = conv((other, own), torch.tensor([[0], [0]]))
    torch.testing.assert_close(bipartite, wanted, rtol=0, atol=2e-5)
