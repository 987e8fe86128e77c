import json

import pytest
import torch

import fimp
from fimp.errors import FIMPError
from fimp.foundation.vit_mae import new_vit_mae, save_vit_mae

SIZE = {"dim": 16, "layers": 2, "heads": 2, "hidden": 24, "decoder_dim": 8, "decoder_layers": 1}


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = new_vit_mae(24, 8, **SIZE).eval()
    for norm in (model.norm, model.vit.final_norm):
        torch.nn.init.normal_(norm.weight)
    return model


def test_upstream_opens_the_folder_and_computes_the_same(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    save_vit_mae(model, tmp_path / "vit")
    upstream, said = transformers.ViTMAEForPreTraining.from_pretrained(tmp_path / "vit", output_loading_info=True)
    assert not any(said[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    upstream.eval()
    images, noise = torch.randn(3, 3, 24, 24), torch.rand(3, 9)
    with torch.no_grad():
        theirs, ours = upstream(images, noise=noise), model(images, noise)
    assert torch.equal(ours.mask, theirs.mask.bool())
    torch.testing.assert_close(ours.predicted, theirs.logits, atol=1e-5, rtol=1e-5)
    loss = (ours.predicted - ours.target)[ours.mask].square().mean()
    torch.testing.assert_close(loss, theirs.loss, atol=1e-5, rtol=1e-5)


def test_the_written_folder_loads_as_the_same_encoder(model, tmp_path):
    model.vit.images = model.vit.images._replace(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    save_vit_mae(model, tmp_path / "vit")
    read = fimp.foundation.load(tmp_path / "vit")
    assert read.images == model.vit.images
    images = torch.randn(2, 3, 24, 24)
    for ours, theirs in zip(
        model.vit.stack.encode(model.vit.embed(images), return_hidden_states=True),
        read.stack.encode(read.embed(images), return_hidden_states=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


def test_what_is_hidden_does_not_reach_the_encoder(model):
    images, noise = torch.randn(1, 3, 24, 24), torch.rand(1, 9)
    before = model(images, noise)
    hidden = before.mask[0].nonzero()[0, 0]
    row, column = 8 * int(hidden // 3), 8 * int(hidden % 3)
    images[:, :, row : row + 8, column : column + 8] += 10 * torch.randn(1, 3, 8, 8)
    after = model(images, noise)
    torch.testing.assert_close(after.predicted, before.predicted, atol=0, rtol=0)
    assert not torch.allclose(after.target, before.target)


def test_targets_are_patches_row_by_row(model):
    image = torch.randn(1, 3, 24, 24)
    patch = image[0, :, 8:16, 16:24].permute(1, 2, 0).flatten()
    wanted = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
    torch.testing.assert_close(model.targets(image)[0, 5], wanted)


def test_positions_are_not_trained(model):
    model(torch.randn(1, 3, 24, 24)).predicted.square().sum().backward()
    assert model.vit.positions.grad is None


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image_size": 24, "patch_size": 7}, "patch size 7 does not divide image size 24"),
        ({"image_size": 24, "patch_size": 0}, "patch size 0"),
        ({"image_size": 24, "patch_size": 8, "mask_ratio": 1.0}, "mask_ratio=1.0"),
        ({"image_size": 24, "patch_size": 24, "mask_ratio": 0.5}, "none or all of 1 patches"),
        ({"image_size": 24, "patch_size": 8, "dim": 18, "heads": 2}, "dim=18"),
        ({"image_size": 24, "patch_size": 8, "dim": 16, "heads": 3}, "dim=16"),
        ({"image_size": 24, "patch_size": 8, "decoder_dim": 6, "heads": 2}, "decoder_dim=6"),
    ],
)
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(FIMPError, match=message):
        new_vit_mae(**sizes)


def test_an_existing_folder_stays(model, tmp_path):
    with pytest.raises(FIMPError, match="exists"):
        save_vit_mae(model, tmp_path)


def test_weights_that_are_no_numbers_are_not_written(model, tmp_path):
    torch.nn.init.constant_(model.out.weight, float("nan"))
    with pytest.raises(FIMPError, match="not written"):
        save_vit_mae(model, tmp_path / "vit")
    assert not list(tmp_path.iterdir())


def test_the_configuration_is_json_that_says_what_it_is(model, tmp_path):
    save_vit_mae(model, tmp_path / "vit")
    assert json.loads((tmp_path / "vit" / "config.json").read_text())["model_type"] == "vit_mae"
