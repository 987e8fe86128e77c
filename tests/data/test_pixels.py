import numpy as np
import pytest
from PIL import Image

from fimp.data.images import decode
from fimp.data.masking import EVALUATION
from fimp.data.pixels import cache, read_pixels, with_margin
from fimp.errors import FIMPError


def picture(path, seed=0, size=(20, 12)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def damaged(path):
    path.write_bytes(picture(path).read_bytes()[:60])
    return path


@pytest.fixture
def paths(tmp_path):
    return [picture(tmp_path / f"{index}.png", index, (10 + index, 9)) for index in range(5)]


def test_pixels_are_those_of_the_images(paths, tmp_path):
    pixels = read_pixels(paths, 8, folder=tmp_path / "cache")
    rows = np.array([3, 0, 3])
    assert np.array_equal(pixels.read(rows), np.stack([decode(paths[row], 8) for row in rows]))


def test_broken_images_are_counted_or_stop(paths, tmp_path):
    folder = tmp_path / "cache"
    paths[1] = damaged(paths[1])
    for _ in range(2):  # decoded, then found
        pixels = read_pixels(paths, 8, folder=folder)
        assert pixels.kept.tolist() == [0, 2, 3, 4]
        assert len(pixels.broken) == 1
        assert np.array_equal(pixels.read(np.array([1]))[0], decode(paths[2], 8))
        with pytest.raises(FIMPError, match=r"1\.png: not readable as an image .*--on-error skip"):
            read_pixels(paths, 8, "fail", folder=folder)
    with pytest.raises(FIMPError, match="none of 1 images"):
        read_pixels([paths[1]], 8, folder=folder)


def test_files_are_decoded_once_and_again_when_they_change(paths, tmp_path, monkeypatch):
    folder, shares = tmp_path / "cache", []
    for _ in range(2):
        read_pixels(paths, 8, listener=shares.append, folder=folder)
    assert shares == [0.0]
    picture(paths[0], 9, (11, 9))
    changed = read_pixels(paths, 8, listener=shares.append, folder=folder)
    assert len(shares) == 2
    assert np.array_equal(changed.read(np.array([0]))[0], decode(paths[0], 8))
    assert not list(folder.glob(".*"))


def test_an_interrupted_decoding_leaves_nothing(paths, tmp_path):
    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_pixels(paths, 8, listener=stop, folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path in cache().parents


def test_views_depend_on_seed_epoch_and_image_alone(paths, tmp_path):
    pixels = read_pixels(paths, 8, folder=tmp_path / "cache")
    rows = np.arange(5)
    whole = pixels.views(rows, 6, 3, 0)
    assert np.array_equal(pixels.views(rows[[4, 1]], 6, 3, 0), whole[[4, 1]])
    assert not np.array_equal(pixels.views(rows, 6, 4, 0), whole)
    assert not np.array_equal(pixels.views(rows, 6, 3, 1), whole)
    for view, image in zip(whole, pixels.read(rows), strict=True):
        crops = [image[y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
        assert any(np.array_equal(view, crop) or np.array_equal(view, crop[:, ::-1]) for crop in crops)


def test_evaluation_sees_the_middle(paths, tmp_path):
    pixels = read_pixels(paths, 8, folder=tmp_path / "cache")
    assert np.array_equal(pixels.views(np.arange(5), 6, EVALUATION, 0), pixels.read(np.arange(5))[:, 1:7, 1:7])
    assert with_margin(64) == 72


@pytest.mark.parametrize(("size", "on_error", "message"), [(0, "skip", "image size 0"), (8, "ignore", "--on-error")])
def test_arguments(paths, tmp_path, size, on_error, message):
    with pytest.raises(FIMPError, match=message):
        read_pixels(paths, size, on_error, folder=tmp_path)


def test_a_place_that_cannot_be_written(paths, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FIMPError, match="cannot be written"):
        read_pixels(paths, 8, folder=tmp_path / "file" / "cache")
