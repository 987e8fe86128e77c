import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fimp
from fimp.errors import FIMPError
from fimp.nn import FIMPConv

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "hf_vit"
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 24, "patch_size": 8}
VIT = {**SMALL, "intermediate_size": 20}
MAE = {
    **VIT,
    "mask_ratio": 0.0,
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 8,
}

#: Class, configuration class, its options: every layout that the library writes, with and without heads.
MODELS = {
    "vit": ("ViTModel", "ViTConfig", VIT),
    "vit-no-bias-relu": ("ViTModel", "ViTConfig", {**VIT, "qkv_bias": False, "hidden_act": "relu"}),
    "vit-eps-tanh": ("ViTModel", "ViTConfig", {**VIT, "layer_norm_eps": 1e-2, "hidden_act": "gelu_pytorch_tanh"}),
    "vit-channels": ("ViTModel", "ViTConfig", {**VIT, "num_channels": 5, "patch_size": 6, "image_size": 30}),
    "vit-classifier": ("ViTForImageClassification", "ViTConfig", VIT),
    "vit-masked": ("ViTForMaskedImageModeling", "ViTConfig", VIT),
    "deit": ("DeiTModel", "DeiTConfig", VIT),
    "deit-classifier": ("DeiTForImageClassification", "DeiTConfig", {**VIT, "hidden_act": "silu"}),
    "deit-teacher": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", {**VIT, "qkv_bias": False}),
    "deit-masked": ("DeiTForMaskedImageModeling", "DeiTConfig", VIT),
    "dinov2": ("Dinov2Model", "Dinov2Config", {**SMALL, "mlp_ratio": 2}),
    "dinov2-swiglu": ("Dinov2Model", "Dinov2Config", {**SMALL, "mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov2-classifier": ("Dinov2ForImageClassification", "Dinov2Config", {**SMALL, "use_mask_token": False}),
    "mae": ("ViTMAEModel", "ViTMAEConfig", MAE),
    "mae-pretraining": ("ViTMAEForPreTraining", "ViTMAEConfig", {**MAE, "qkv_bias": False}),
}


def upstream(name):
    """A model of the transformers library without a single zero among its weights."""
    transformers = pytest.importorskip("transformers")
    model_class, config_class, options = MODELS[name]
    torch.manual_seed(3)
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


def expected(model, pixel_values):
    """Hidden states, and the last one after the final norm, of the encoder inside a model."""
    base = model.base_model
    options = {"output_hidden_states": True}
    if base.config.model_type != "dinov2":
        options["interpolate_pos_encoding"] = True
    if base.config.model_type == "vit_mae":
        patches = (pixel_values.size(2) // 8) * (pixel_values.size(3) // 8)
        options["noise"] = torch.arange(float(patches)).expand(len(pixel_values), -1)
    with torch.no_grad():
        out = base(pixel_values, **options)
    return torch.stack(out.hidden_states), out


def images(model, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, model.config.num_channels, height, width, generator=generator)


def close(found, wanted, atol=2e-5):
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


@pytest.fixture
def folder(tmp_path):
    """A small ViT as ``save_pretrained`` writes it, made without the library."""
    if not GOLDEN.exists():
        pytest.skip("golden files are not here")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((GOLDEN / "checkpoint" / name).read_bytes())
    return tmp_path


def change(folder, **entries):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **entries}))


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")
def test_golden():
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "golden.npz").items()}
    fm = fimp.foundation.load(GOLDEN / "checkpoint").eval()
    with torch.no_grad():
        states = fm.stack.encode(fm.embed(golden["pixel_values"]), return_hidden_states=True)
        close(torch.stack(states), golden["hidden_states"])
        close(fm.final_norm(states[-1]), golden["last_hidden_state"])
        close(fm.pool(states[-1]), golden["pooler_output"])
    assert fm.family == "vit"


@pytest.mark.parametrize("name", MODELS)
def test_every_model_agrees_with_the_library(name, tmp_path):
    model = upstream(name)
    model.save_pretrained(tmp_path)
    fm = fimp.foundation.load(tmp_path).eval()
    side = model.config.image_size
    patch = model.config.patch_size
    # The native size, a larger one, one of another shape, and one that is no multiple of the patch.
    for height, width in [(side, side), (side + 2 * patch, side + 2 * patch), (2 * patch, 4 * patch), (side + 3, 40)]:
        pixel_values = images(model, height, width)
        wanted, out = expected(model, pixel_values)
        with torch.no_grad():
            found = fm.stack.encode(fm.embed(pixel_values), return_hidden_states=True)
            close(torch.stack(found), wanted)
            close(fm.final_norm(found[-1]), out.last_hidden_state)
            if getattr(out, "pooler_output", None) is not None:
                close(fm.pool(found[-1]), out.pooler_output)


def test_backbones_agree_with_the_model_of_equal_weights(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = upstream("dinov2")
    backbone = transformers.Dinov2Backbone(model.config).eval()
    backbone.load_state_dict(model.state_dict())
    backbone.save_pretrained(tmp_path)
    pixel_values = images(model, 24, 24)
    fm = fimp.foundation.load(tmp_path).eval()
    with torch.no_grad():
        found = fm.stack.encode(fm.embed(pixel_values), return_hidden_states=True)
    close(torch.stack(found), expected(model, pixel_values)[0])


def test_shards_and_pickled_tensors_give_the_same_model(folder):
    pixel_values = torch.randn(1, 3, 32, 32)
    fm = fimp.foundation.load(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    pickled = fimp.foundation.load(folder)
    (folder / "pytorch_model.bin").unlink()
    half = len(state) // 2
    where = {}
    for part, keys in enumerate([list(state)[:half], list(state)[half:]]):
        save_file({key: state[key] for key in keys}, folder / f"part{part}.safetensors")
        where |= dict.fromkeys(keys, f"part{part}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    sharded = fimp.foundation.load(folder)
    for other in (pickled, sharded):
        assert torch.equal(other.stack.encode(other.embed(pixel_values)), fm.stack.encode(fm.embed(pixel_values)))


def test_images_that_are_not_square(tmp_path):
    """The library cannot enlarge position embeddings of such models; at their own size it is plain addition."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(**{**VIT, "image_size": [16, 32]})
    model = transformers.ViTModel(config).eval()
    torch.nn.init.normal_(model.embeddings.position_embeddings)
    model.save_pretrained(tmp_path)
    fm = fimp.foundation.load(tmp_path).eval()
    pixel_values = images(model, 16, 32)
    with torch.no_grad():
        close(fm.embed(pixel_values), model.embeddings(pixel_values))
    assert fm.embed(images(model, 32, 64)).shape == (2, 1 + 4 * 8, 16)


def test_the_image_processor_is_read_or_the_familys_own(folder):
    assert fimp.foundation.load(folder).images == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (32, 32))
    processor = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3], "size": {"height": 40, "width": 48}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    assert fimp.foundation.load(folder).images == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (40, 48))
    for size, wanted in [(40, (40, 40)), ({"shortest_edge": 24}, (24, 24))]:
        (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))
        assert fimp.foundation.load(folder).images.size == wanted
    cropped = {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}, "do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(cropped))
    assert fimp.foundation.load(folder).images == ((0.0,) * 3, (1.0,) * 3, (56, 56))
    for wrong in ({"image_mean": [1]}, {"image_std": [0, 1, 1]}, {"size": {"width": 3}}, {"image_mean": "x"}):
        (folder / "preprocessor_config.json").write_text(json.dumps(wrong))
        with pytest.raises(FIMPError, match=r"^\S*preprocessor_config\.json: '"):
            fimp.foundation.load(folder)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((3, 32, 32), "3, 32, 32"), ((1, 1, 32, 32), "3 channels"), ((1, 3, 7, 32), "7 x 32")],
)
def test_images_that_do_not_fit_are_refused(folder, shape, wanted):
    with pytest.raises(FIMPError, match=wanted):
        fimp.foundation.load(folder).embed(torch.zeros(shape))


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ({"hidden_size": "wide"}, "'hidden_size' is 'wide'"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"num_attention_heads": 5}, r"config\.json: .*heads=5"),
        ({"num_hidden_layers": 0}, r"config\.json: .*layers=0"),
        ({"hidden_act": "mystery"}, r"config\.json: .*mystery"),
        ({"patch_size": -1}, "'patch_size' is -1"),
        ({"image_size": 4}, "image_size"),
        ({"hidden_size": 64}, r"\[.*32.*\].*\[.*64.*\]"),
        ({"intermediate_size": 10**12}, "'intermediate_size' is 1"),
        ({"hidden_size": 2**30}, r"config\.json: .*memory"),
        ({"num_hidden_layers": 3}, r"encoder\.layer\.2\."),
        ({"num_hidden_layers": 1}, r"encoder\.layer\.1\."),
        ({"image_size": 48}, r"position_embeddings.*17.*37"),
        ({"num_channels": 0}, "'num_channels' is 0"),
        ({"pooler_output_size": -3}, "'pooler_output_size' is -3"),
        ({"layer_norm_eps": float("nan")}, "'layer_norm_eps' is nan"),
        ({"model_type": "beit"}, "beit.*vit"),
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
        (lambda state: state.pop("encoder.layer.1.output.dense.bias"), r"encoder\.layer\.1\.output\.dense\.bias"),
        (lambda state: state.pop("embeddings.cls_token"), r"embeddings\.cls_token"),
        (lambda state: state.update({"encoder.layer.0.extra": torch.ones(1)}), r"encoder\.layer\.0\.extra"),
        (lambda state: state.update({"layernorm.weight": torch.ones(31)}), r"layernorm\.weight.*\[31\].*\[32\]"),
        (lambda state: state.pop("pooler.dense.bias"), r"pooler\.dense\.bias"),
    ],
)
def test_a_key_that_does_not_fit_is_named(folder, edit, wanted):
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(FIMPError, match=wanted) as caught:
        fimp.foundation.load(folder)
    assert "model.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_without_a_pooler_pool_the_class_token(folder):
    state = {key: value for key, value in load_file(folder / "model.safetensors").items() if "pooler" not in key}
    save_file(state, folder / "model.safetensors")
    fm = fimp.foundation.load(folder).eval()
    h = fm.stack.encode(fm.embed(torch.randn(2, 3, 32, 32)))
    assert torch.equal(fm.pool(h), fm.final_norm(h)[:, 0])


@pytest.mark.parametrize("aggregate", ["final", "layer"])
@pytest.mark.parametrize("name", ["vit-no-bias-relu", "deit", "dinov2", "dinov2-swiglu", "mae"])
def test_a_graph_of_self_loops_is_the_plain_model(name, aggregate, tmp_path):
    model = upstream(name)
    model.save_pretrained(tmp_path)
    fm = fimp.foundation.load(tmp_path)
    pixel_values = images(model, 24, 24)
    with torch.no_grad():
        conv = FIMPConv(fm.message(aggregate), add_self_loops=True)
        out = conv(fm.embed(pixel_values), torch.empty(2, 0, dtype=torch.long))
    close(out, expected(model, pixel_values)[0][-1])


def upstream_message(model, source, message):
    """The message of one edge, a loop over the library's own modules."""
    base = model.base_model
    dinov2 = base.config.model_type == "dinov2"
    for layer in base.encoder.layer if dinov2 else base.layers:
        attention = layer.attention
        norms = (layer.norm1, layer.norm2) if dinov2 else (layer.layernorm_before, layer.layernorm_after)
        query = attention.q_proj(norms[0](message)).unflatten(-1, (4, -1))
        key = attention.k_proj(norms[0](source)).unflatten(-1, (4, -1))
        value = attention.v_proj(norms[0](source)).unflatten(-1, (4, -1))
        scores = torch.einsum("bthd,bshd->bhts", query, key) * attention.scaling
        context = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), value).flatten(2)
        scale1, scale2 = (layer.layer_scale1, layer.layer_scale2) if dinov2 else (lambda x: x, lambda x: x)
        message = message + scale1(attention.o_proj(context))
        message = message + scale2(layer.mlp(norms[1](message)))
        source = layer(source)
        source = source[0] if isinstance(source, tuple) else source
    return message


@pytest.mark.parametrize("aggregate", ["final", "layer"])
@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_a_message_is_what_the_librarys_own_modules_make_of_two_images(name, aggregate, tmp_path):
    """One edge between images of different sizes; it would not pass with the direction swapped."""
    pytest.importorskip("transformers", minversion="5.0")
    model = upstream(name)
    model.save_pretrained(tmp_path)
    fm = fimp.foundation.load(tmp_path)
    with torch.no_grad():
        h_src, h_dst = fm.embed(images(model, 16, 24)[:1]), fm.embed(images(model, 24, 24, seed=1)[:1])
        out = FIMPConv(fm.message(aggregate))((h_src, h_dst), torch.tensor([[0], [0]]))
        close(out, upstream_message(model, h_src, h_dst))
        assert not torch.allclose(out, fm.stack.encode(h_dst), atol=1e-2)
