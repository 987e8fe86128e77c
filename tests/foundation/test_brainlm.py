import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fimp
from fimp.errors import FIMPError
from fimp.foundation.brainlm import Reconstruction
from fimp.nn import FIMPConv

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "brainlm"
pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")

TOLERANCE = {"exact": 2e-5, "nystrom": 2e-4}


@pytest.fixture(scope="module")
def golden():
    return {
        name: {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(GOLDEN / f"{name}.npz").items()}
        for name in TOLERANCE
    }


def load(name):
    return fimp.foundation.load(GOLDEN / f"checkpoint_{name}").eval()


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).write_bytes((GOLDEN / "checkpoint_exact" / name).read_bytes())
    return tmp_path


def change(folder, **entries):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **entries}))


def check(found, values, prefix, name):
    """Compare what is there under a prefix, and nothing else."""
    for key, value in found.items():
        if prefix + key in values:
            wanted = values[prefix + key]
            torch.testing.assert_close(value.to(wanted.dtype), wanted, rtol=0, atol=TOLERANCE[name], msg=prefix + key)


@torch.no_grad()
def run(encoder, decoder, signal, xyz, ratio, noise):
    """All intermediate results, made with the public pieces."""
    masked = encoder.mask_tokens(encoder.embed(signal, xyz), ratio, noise)
    states = encoder.stack.encode(masked.h, return_hidden_states=True)
    latent = encoder.final_norm(states[-1])
    decoded = decoder.decoder.stack.encode(
        decoder.decoder.restore(latent, xyz, masked.ids_restore), return_hidden_states=True
    )
    logits = decoder.decoder.predict(decoded[-1], xyz.size(1))
    found = {
        "embeddings": masked.h,
        "mask": masked.mask,
        "ids_restore": masked.ids_restore,
        "encoder_hidden_states": torch.stack(states),
        "encoder_output": latent,
        "decoder_hidden_states": torch.stack(decoded),
        "logits": logits,
    }
    if masked.mask.any():
        found["loss"] = decoder.loss(signal, Reconstruction(logits, masked.mask.view(logits.shape[:3])))
    return found


CASES = [
    ("exact", "m0_", 0.0, "noise_identity"),
    ("exact", "m0_shuffled_", 0.0, "noise_random"),
    ("exact", "m50_", 0.5, "noise_random"),
    ("exact", "m20_", 0.2, "noise_random"),
    ("nystrom", "m0_", 0.0, "noise_identity"),
    ("nystrom", "m0_shuffled_", 0.0, "noise_random"),
]


@pytest.mark.parametrize(("name", "prefix", "ratio", "noise"), CASES)
def test_golden(golden, name, prefix, ratio, noise):
    values, fm = golden[name], load(name)
    signal, xyz = values["signal_vectors"], values["xyz_vectors"]
    found = run(fm, fm, signal, xyz, ratio, values[noise])
    assert sum(prefix + key in values for key in found) >= 3
    check(found, values, prefix, name)
    with torch.no_grad():
        whole = fm.reconstruct(signal, xyz, mask_ratio=ratio, noise=values[noise])
    torch.testing.assert_close(whole.logits, found["logits"])
    assert torch.equal(whole.mask.flatten(1), found["mask"])


def test_natural_order_is_that_of_ascending_noise(golden):
    values, fm = golden["exact"], load("exact")
    with torch.no_grad():
        h = fm.embed(values["signal_vectors"], values["xyz_vectors"])
        states = fm.stack.encode(h, return_hidden_states=True)
    check({"embeddings": h, "encoder_hidden_states": torch.stack(states)}, values, "m0_", "exact")
    check({"encoder_output": fm.final_norm(states[-1])}, values, "m0_", "exact")


def test_nystrom_depends_on_its_batch_as_upstream(golden):
    values, fm = golden["nystrom"], load("nystrom")
    sample = int(values["m0_alone_sample"])
    one = slice(sample, sample + 1)
    found = run(fm, fm, values["signal_vectors"][one], values["xyz_vectors"][one], 0.0, values["noise_identity"][one])
    check(found, values, "m0_alone_", "nystrom")
    assert (found["logits"] - values["m0_logits"][one]).abs().max() > 1e-3


def test_nystrom_with_masked_tokens(golden, tmp_path):
    """One configuration cannot serve encoder and decoder then; the golden values have one for each."""
    values, decoder = golden["nystrom"], load("nystrom")
    config = (GOLDEN / "config_nystrom_masked_encoder.json").read_text()
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "pytorch_model.bin").write_bytes((GOLDEN / "checkpoint_nystrom" / "pytorch_model.bin").read_bytes())
    encoder = fimp.foundation.load(tmp_path).eval()
    signal, xyz = values["signal_vectors"], values["xyz_vectors"]
    check(run(encoder, decoder, signal, xyz, None, values["noise_random"]), values, "m50_", "nystrom")
    with pytest.raises(FIMPError, match=r"28 tokens with CLS.*segment_means_seq_len=55"):
        decoder.reconstruct(signal, xyz, 0.5)


def test_equal_numbers_of_landmarks_and_segments_are_exact_attention(golden, folder):
    (folder / "config.json").write_bytes((GOLDEN / "config_exact_64.json").read_bytes())
    values, fm = golden["exact"], fimp.foundation.load(folder).eval()
    found = run(fm, fm, values["signal_vectors"], values["xyz_vectors"], 0.5, values["noise_random"])
    check(found, values, "m50_", "exact")


def test_safetensors_give_the_same_model(golden, folder):
    values, fm = golden["exact"], fimp.foundation.load(folder).eval()
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    # The two tables share one storage, which safetensors does not store.
    save_file({key: value.clone() for key, value in state.items()}, folder / "model.safetensors")
    other = fimp.foundation.load(folder).eval()
    arguments = values["signal_vectors"], values["xyz_vectors"], 0.5, values["noise_random"]
    assert torch.equal(other.reconstruct(*arguments).logits, fm.reconstruct(*arguments).logits)


def test_options_of_the_configuration(golden, folder):
    values = golden["exact"]
    arguments = values["signal_vectors"], values["xyz_vectors"], None, values["noise_random"]
    plain = fimp.foundation.load(folder).eval().reconstruct(*arguments)
    change(folder, use_tanh_decoder=True, loss_fn="mae", mask_ratio=0.2, qkv_bias=False)
    fm = fimp.foundation.load(folder).eval()
    assert fm.reconstruct(*arguments).mask.sum() < plain.mask.sum()
    changed = fm.reconstruct(*arguments[:2], 0.5, arguments[3])
    torch.testing.assert_close(changed.logits, plain.logits.tanh())
    patches = values["signal_vectors"].unflatten(2, (-1, 20))
    wanted = (changed.logits - patches).abs()[changed.mask].mean()
    torch.testing.assert_close(fm.loss(values["signal_vectors"], changed), wanted)


def test_masking_draws_anew_and_keeps_what_it_says():
    fm = load("exact")
    h = fm.embed(torch.randn(2, 3, 80), torch.randn(2, 3, 3))
    torch.manual_seed(0)
    one, two = fm.mask_tokens(h, 0.3), fm.mask_tokens(h, 0.3)
    assert not torch.equal(one.ids_keep, two.ids_keep)
    assert one.h.shape == (2, 1 + int(12 * 0.7), 16)
    assert torch.equal(one.h[:, :1], h[:, :1])
    for sample in range(2):
        assert torch.equal(one.h[sample, 1:], h[sample, 1:][one.ids_keep[sample]])
        assert sorted(one.ids_keep[sample].tolist()) == (~one.mask[sample]).nonzero()[:, 0].tolist()


def test_everything_is_trained_by_the_loss():
    fm = load("exact").train()
    signal, xyz = torch.randn(2, 3, 80), torch.randn(2, 3, 3)
    fm.loss(signal, fm.reconstruct(signal, xyz, 0.5)).backward()
    for name, parameter in fm.named_parameters():
        # A bias of keys shifts all scores of a query alike.
        assert parameter.grad is not None, name
        assert "k_proj.bias" in name or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda fm: fm.embed(torch.zeros(1, 2, 30), torch.zeros(1, 2, 3)), "multiple of the patch length 20"),
        (lambda fm: fm.embed(torch.zeros(1, 2, 0), torch.zeros(1, 2, 3)), r"\[1, 2, 0\]"),
        (lambda fm: fm.embed(torch.zeros(2, 40), torch.zeros(2, 3)), r"\[2, 40\]"),
        (lambda fm: fm.embed(torch.zeros(1, 2, 40), None), "xyz: missing"),
        (lambda fm: fm.embed(torch.zeros(1, 2, 40), torch.zeros(1, 3, 3)), r"xyz.*\[1, 3, 3\].*\[1, 2, 3\]"),
        (lambda fm: fm.reconstruct(torch.zeros(1, 2, 40), torch.zeros(1, 2, 3), 1.0), "mask_ratio=1.0"),
        (lambda fm: fm.reconstruct(torch.zeros(1, 2, 40), torch.zeros(1, 2, 3), -0.1), "mask_ratio=-0.1"),
        (lambda fm: fm.reconstruct(torch.zeros(1, 2, 40), torch.zeros(1, 2, 3), 0.9), "none of 4 tokens"),
        (
            lambda fm: fm.reconstruct(torch.zeros(1, 2, 40), torch.zeros(1, 2, 3), 0.5, torch.zeros(1, 3)),
            r"noise.*\[1, 3\].*\[1, 4\]",
        ),
    ],
)
def test_input_that_does_not_fit_is_one_line(call, wanted):
    with pytest.raises(FIMPError, match=wanted) as caught:
        call(load("exact"))
    assert "\n" not in str(caught.value)


def test_a_loss_of_nothing_is_refused():
    fm = load("exact")
    signal, xyz = torch.zeros(1, 2, 40), torch.zeros(1, 2, 3)
    with pytest.raises(FIMPError, match="no patch was removed"):
        fm.loss(signal, fm.reconstruct(signal, xyz, 0.0))
    with pytest.raises(FIMPError, match="reconstruction is"):
        fm.loss(torch.zeros(1, 2, 60), fm.reconstruct(signal, xyz, 0.5))


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ({"hidden_size": "x"}, "'hidden_size' is 'x'"),
        ({"hidden_size": 32, "decoder_hidden_size": 32}, r"shape \[.*16.*\].*wanted \[.*32.*\]"),
        ({"decoder_hidden_size": 32}, "'decoder_hidden_size' is 32"),
        ({"num_attention_heads": 3}, "heads=3"),
        ({"num_hidden_layers": 3}, r"vit\.encoder\.layer\.2\."),
        ({"decoder_num_hidden_layers": 2}, r"decoder\.decoder_layers\.1\."),
        ({"conv_kernel_size": None}, r"attention\.self\.conv\.weight.*unexpected"),
        ({"conv_kernel_size": 33}, r"attention\.self\.conv\.weight.*65.*33"),
        ({"timepoint_patching_size": 10}, "signal_embedding_projection"),
        ({"timepoint_patching_size": 0}, "timepoint_patching_size"),
        ({"num_landmarks": 10}, "num_landmarks"),
        ({"num_landmarks": 0}, "landmarks=0"),
        ({"num_landmarks": 11, "inv_coeff_init_option": True}, "inv_coeff_init_option"),
        ({"loss_fn": "huber"}, "huber"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(folder, entries, wanted):
    change(folder, **entries)
    with pytest.raises(FIMPError, match=wanted) as caught:
        fimp.foundation.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (lambda state: state.pop("vit.layernorm.bias"), r"vit\.layernorm\.bias.*missing"),
        (lambda state: state.pop("decoder.mask_token"), r"decoder\.mask_token.*missing"),
        (lambda state: state.update({"vit.extra": torch.ones(2)}), r"vit\.extra.*unexpected"),
        (lambda state: state.update({"decoder.decoder_pred3.bias": torch.ones(2)}), r"decoder_pred3.*unexpected"),
        (lambda state: state.update({"vit.layernorm.bias": torch.ones(3)}), r"vit\.layernorm\.bias.*\[3\].*\[16\]"),
    ],
)
def test_a_key_that_does_not_fit_is_named(folder, edit, wanted):
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    edit(state)
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(FIMPError, match=wanted) as caught:
        fimp.foundation.load(folder)
    assert "pytorch_model.bin" in str(caught.value)


def test_keys_that_upstream_does_not_use_may_be_missing(folder):
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    unused = ("pos_embedding.pe", "decoder_pred.weight", "decoder_pred.bias")
    torch.save({key: value for key, value in state.items() if not key.endswith(unused)}, folder / "pytorch_model.bin")
    assert fimp.foundation.load(folder).family == "brainlm"


@pytest.mark.parametrize("aggregate", ["final", "layer"])
@pytest.mark.parametrize("name", TOLERANCE)
def test_a_graph_of_self_loops_is_the_plain_model_run_on_one_region_at_a_time(name, aggregate):
    fm = load(name)
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(3, 1, 54 * 20, generator=generator)
    with torch.no_grad():
        h = fm.embed(signal, torch.randn(3, 1, 3, generator=generator))
        conv = FIMPConv(fm.message(aggregate), add_self_loops=True)
        out = conv(h, torch.empty(2, 0, dtype=torch.long))
        torch.testing.assert_close(out, fm.stack.encode(h), rtol=0, atol=TOLERANCE[name])


@pytest.mark.parametrize("aggregate", ["final", "layer"])
def test_a_message_is_what_upstreams_own_modules_make_of_two_regions(aggregate):
    """One edge; it would not pass with the direction swapped."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerLayer

    fm = load("exact")
    state = torch.load(GOLDEN / "checkpoint_exact" / "pytorch_model.bin", weights_only=True)
    names = ("hidden_size", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps")
    options = {name: fm.config[name] for name in (*names, "segment_means_seq_len", "num_landmarks", "conv_kernel_size")}
    config = transformers.NystromformerConfig(**options)
    layers = []
    for position in range(2):
        prefix = f"vit.encoder.layer.{position}."
        layer = NystromformerLayer(config).eval()
        layer.load_state_dict({key.removeprefix(prefix): value for key, value in state.items() if prefix in key})
        layers.append(layer)
    with torch.no_grad():
        torch.manual_seed(0)
        h = fm.embed(torch.randn(2, 1, 200), torch.randn(2, 1, 3))
        source, message = h[:1], h[1:]
        out = FIMPConv(fm.message(aggregate))(h, torch.tensor([[0], [1]]))
        for layer in layers:
            attention = layer.attention.self
            query = attention.query(message).unflatten(-1, (4, -1)).transpose(1, 2)
            key = attention.key(source).unflatten(-1, (4, -1)).transpose(1, 2)
            value = attention.value(source).unflatten(-1, (4, -1)).transpose(1, 2)
            context = (query @ key.transpose(-1, -2) / 2.0).softmax(-1) @ value + attention.conv(value)
            attended = layer.attention.output(context.transpose(1, 2).flatten(2), message)
            message = layer.output(layer.intermediate(attended), attended)
            source = layer(source)[0]
    torch.testing.assert_close(out[1:], message, rtol=0, atol=2e-5)
    assert (out[0] == 0).all()
