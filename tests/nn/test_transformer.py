from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from fimp.errors import FIMPError
from fimp.nn import StackConfig, TransformerLayer, TransformerStack
from fimp.nn.transformer import parse_layers

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "brainlm"

VARIANTS = [
    {"norm": norm, "activation": activation, "layer_scale": scale, "value_conv": conv, "landmarks": landmarks}
    for norm, (activation, scale), conv, landmarks in product(
        ("post", "pre"), (("relu", False), ("swiglu", True)), (None, 3), (None, 2)
    )
]


def stack(seed=0, **options):
    torch.manual_seed(seed)
    made = TransformerStack(StackConfig(**({"dim": 8, "heads": 2, "hidden": 12, "layers": 3} | options))).double()
    for parameter in made.parameters():
        # Biases and norms that start at zero and one would hide that they are not used.
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def tokens(nodes=4, length=6, dim=8, seed=0):
    return torch.randn(nodes, length, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_equals_torchs_own_encoder_layer(norm, activation):
    ours = stack(norm=norm, activation=activation, eps=1e-4)
    h = tokens()
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] + [0] * 5, [1] * 6]).bool()
    want = h
    for layer in ours.layers:
        theirs = torch.nn.TransformerEncoderLayer(
            8, 2, 12, 0.0, activation, 1e-4, batch_first=True, norm_first=norm == "pre", dtype=torch.float64
        )
        fused = [getattr(layer, f"{name}_proj") for name in "qkv"]
        state = {
            "self_attn.in_proj_weight": torch.cat([part.weight for part in fused]),
            "self_attn.in_proj_bias": torch.cat([part.bias for part in fused]),
        }
        state |= {f"self_attn.{k}": v for k, v in layer.state_dict().items() if k.startswith("out_proj")}
        state |= {k: v for k, v in layer.state_dict().items() if k.startswith(("linear", "norm"))}
        theirs.load_state_dict(state)
        want = theirs.train()(want, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours.encode(h, mask)[mask], want[mask], rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")
def test_nystrom_attention_equals_upstreams():
    golden = np.load(GOLDEN / "nystrom.npz")
    state = torch.load(GOLDEN / "checkpoint_nystrom" / "pytorch_model.bin", weights_only=True)
    config = StackConfig(12, 4, 32, 2, activation="gelu", eps=1e-12, value_conv=65, landmarks=11)
    ours = TransformerStack(config).eval()
    names = {
        "attention.self.query": "q_proj",
        "attention.self.key": "k_proj",
        "attention.self.value": "v_proj",
        "attention.self.conv": "value_conv",
        "attention.output.dense": "out_proj",
        "attention.output.LayerNorm": "norm1",
        "intermediate.dense": "linear1",
        "output.dense": "linear2",
        "output.LayerNorm": "norm2",
    }
    own = {}
    for key, value in state.items():
        if key.startswith("vit.encoder.layer."):
            number, rest = key.removeprefix("vit.encoder.layer.").split(".", 1)
            module, kind = rest.rsplit(".", 1)
            own[f"layers.{number}.{names[module]}.{kind}"] = value
    ours.load_state_dict(own)
    for prefix in ("m0_", "m50_"):
        wanted = torch.from_numpy(golden[f"{prefix}encoder_hidden_states"])
        if prefix == "m50_":
            masked = TransformerStack(StackConfig(**{**vars(config), "landmarks": 7})).eval()
            masked.load_state_dict(own)
        run = ours if prefix == "m0_" else masked
        found = run.encode(torch.from_numpy(golden[f"{prefix}embeddings"]), return_hidden_states=True)
        torch.testing.assert_close(torch.stack(found), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states_are_the_input_and_every_layers_output(variant):
    run = stack(**variant)
    h = tokens()
    states = run.encode(h, return_hidden_states=True)
    assert len(states) == 4
    assert states[0] is h
    for layer, before, after in zip(run.layers, states, states[1:], strict=False):
        torch.testing.assert_close(layer(before), after)
    torch.testing.assert_close(run.encode(h), states[-1])


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v["landmarks"] is None])
def test_masked_tokens_influence_no_other(variant):
    run, h = stack(**variant), tokens()
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[0, 4:] = mask[1, 1:] = mask[2] = False
    out = run.encode(h, mask)
    assert out.isfinite().all()
    rubbish = torch.where(mask[:, :, None], h, torch.nan)
    torch.testing.assert_close(run.encode(rubbish, mask)[mask], out[mask], rtol=0, atol=0)
    # Padding is as if it were not there; the convolution, which sees positions, finds zeros either way.
    torch.testing.assert_close(run.encode(h[:1, :4]), out[:1, :4], rtol=1e-9, atol=1e-11)


def test_nystrom_takes_empty_rows_but_no_partly_masked_ones():
    run, h = stack(landmarks=2, value_conv=3), tokens()
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[2] = False
    out = run.encode(h, mask)
    assert out.isfinite().all()
    # What an empty row holds does not reach the others through the maximum of the pseudo-inverse.
    other = h.clone()
    other[2] *= 100.0
    torch.testing.assert_close(run.encode(other, mask)[mask], out[mask], rtol=0, atol=0)
    mask[0, 5] = False
    with pytest.raises(FIMPError, match="leave them out of the sequence"):
        run.encode(h, mask)
    with pytest.raises(FIMPError, match="5 tokens do not divide into the 2 landmarks"):
        run.encode(h[:, :5])


def test_nystrom_with_a_landmark_per_token_is_nearly_exact():
    h = 0.3 * tokens()
    exact, near = stack(), stack(landmarks=6)
    near.load_state_dict(exact.state_dict())
    torch.testing.assert_close(near.encode(h), exact.encode(h), rtol=0, atol=2e-2)


def test_dropout_acts_in_training_alone():
    run, h = stack(dropout=0.5), tokens()
    torch.testing.assert_close(run.encode(h), run.encode(h), rtol=0, atol=0)
    run.train()
    assert not torch.equal(run.encode(h), run.encode(h))


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [("-2:", [1, 2]), (":1", [0]), ("::2", [0, 2]), ("1", [1]), ("-1", [2]), (slice(0, 2), [0, 1]), (None, [0, 1, 2])],
)
def test_a_part_shares_the_chosen_layers(layers, chosen):
    run = stack()
    part = run.part(layers)
    assert [id(layer) for layer in part.layers] == [id(run.layers[index]) for index in chosen]
    assert part.config.layers == len(part.layers)
    h = want = tokens()
    for index in chosen:
        want = run.layers[index](want)
    torch.testing.assert_close(part.encode(h), want)


@pytest.mark.parametrize("text", ["all", "", "1:2:3:4", "::0", "a:b"])
def test_other_texts_are_no_layers(text):
    with pytest.raises(FIMPError, match=f"layers='{text}'"):
        parse_layers(text)


@pytest.mark.parametrize("layers", ["5:", "7", slice(2, 1)])
def test_some_layer_must_be_left(layers):
    with pytest.raises(FIMPError, match="none of the model's 3 layers"):
        stack().part(layers)


def test_inputs_that_do_not_fit_are_named():
    run, h = stack(), tokens()
    with pytest.raises(FIMPError, match=r"h has shape \[4, 6, 7\], wanted \[N, T, 8\]"):
        run.encode(h[..., :7])
    with pytest.raises(FIMPError, match=r"mask has shape \[4, 5\]"):
        run.encode(h, torch.ones(4, 5, dtype=torch.bool))
    with pytest.raises(FIMPError, match=r"float32.*True = real token"):
        run.encode(h, torch.ones(4, 6))


def test_reset_draws_anew():
    run = stack(layer_scale=True, value_conv=3, activation="swiglu")
    before = {key: value.clone() for key, value in run.state_dict().items()}
    run.reset_parameters()
    assert not [key for key, value in run.state_dict().items() if torch.equal(value, before[key])]
    assert isinstance(run.layers[0], TransformerLayer)
    assert (run.layers[0].scale1 == 1).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_nodes_are_no_error(variant):
    assert stack(**variant).encode(tokens(nodes=0)).shape == (0, 6, 8)
