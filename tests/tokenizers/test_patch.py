import pytest
import torch

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.nn.positions import sin_cos_2d
from fimp.tokenizers.patch import ImageInputs, PatchEncoder, PatchTokenizer


def test_a_token_is_its_patch_and_its_place():
    tokenizer = PatchTokenizer(24, 8, 32)
    images = torch.randn(2, 3, 24, 24)
    h, mask = tokenizer(images)
    assert h.shape == (2, 9, 32)
    assert mask.all()
    patch = images[1, :, 8:16, 16:24]
    wanted = torch.nn.functional.conv2d(patch[None], tokenizer.project.weight, tokenizer.project.bias).flatten()
    torch.testing.assert_close(h[1, 5, :24], wanted)
    assert torch.equal(h[1, :, 24:], sin_cos_2d(3, 3, 8))


@pytest.mark.parametrize(("sizes", "message"), [((24, 7, 32), "patch size 7"), ((24, 8, 24), "dim=24")])
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(FIMPError, match=message):
        PatchTokenizer(*sizes)


def test_images_of_another_size_are_refused():
    with pytest.raises(FIMPError, match=r"shape \[1, 3, 16, 24\]"):
        PatchTokenizer(24, 8, 32)(torch.randn(1, 3, 16, 24))


@pytest.mark.parametrize("kind", ["tokens", "vectors"])
def test_brightness_and_contrast_of_the_training_set_are_taken_out(kind):
    torch.manual_seed(0)
    mean, std = torch.tensor([0.2, 0.4, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    encoder = PatchEncoder(kind, mean, std, 16, 8, 16).eval()
    pixels = (255 * mean[:, None, None]).round().to(torch.uint8).expand(3, 3, 16, 16)
    content = ImageInputs(pixels)
    torch.testing.assert_close(encoder.vectors(content), encoder.whole.bias.expand(3, -1), atol=0.05, rtol=0)


def test_patches_are_made_only_of_nodes_that_send_them():
    encoder = PatchEncoder("tokens", torch.full((3,), 0.5), torch.full((3,), 0.2), 16, 8, 16).eval()
    content = ImageInputs(torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8))
    graph = Subgraph(
        torch.arange(4), torch.tensor([[1, 2, 3], [0, 0, 1]]), [1, 3, 4], [2, 3], torch.tensor([2, 1, 0, 0]), None, None
    )
    whole, patches = encoder.told(content, graph)
    assert whole.shape == (4, 1, 16)
    assert patches.h.shape == (3, 4, 16)
