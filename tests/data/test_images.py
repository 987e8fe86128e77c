import numpy as np
import pytest
from PIL import Image

from fimp.data.images import decode, default_patch, default_side, find_images, gps_position
from fimp.errors import FIMPError


def picture(path, size=(20, 12), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def test_a_folder_is_searched_in_order(tmp_path):
    wanted = [picture(tmp_path / name) for name in ("a.png", "b/c.jpg", "b/d.TIFF", "e.webp")]
    (tmp_path / "notes.txt").write_text("no image")
    assert find_images(tmp_path) == sorted(wanted)


def test_a_table_lists_paths_beside_it(tmp_path):
    picture(tmp_path / "images" / "a.png")
    table = tmp_path / "images.csv"
    table.write_text("\ufefflabel,path\nx,images/a.png\ny, images/a.png\n", encoding="utf-8")
    assert find_images(table) == [tmp_path / "images" / "a.png"] * 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "file,label\na.png,1\n", "no column 'path' among file, label"),
        ("t.csv", "", "no column 'path' among nothing"),
        ("t.csv", "path\n", "lists no images"),
        ("t.csv", "path\nlost.png\n", "1 of 1 images are not there, first"),
        ("t.csv", b"path\n\xff\xfe.png\n", "not readable as a table"),
        ("t.txt", "path\n", "is a .txt"),
    ],
)
def test_tables_that_do_not_do(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FIMPError, match=message):
        find_images(path)


def test_places_without_images(tmp_path):
    with pytest.raises(FIMPError, match="no images"):
        find_images(tmp_path)
    with pytest.raises(FIMPError, match="does not exist"):
        find_images(tmp_path / "nowhere")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_colour(tmp_path, mode):
    path = picture(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), mode=mode)
    assert decode(path, 8).shape == (8, 8, 3)


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png", 8)[:, :, 1], values >> 8)


def test_exif_turns_the_image(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = decode(tmp_path / "a.png", 8)
    assert turned[:, 4:].min() == 255
    assert turned[:, :4].max() == 0


def test_the_middle_of_a_wide_image_is_kept(tmp_path):
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", 8) == 200).all()


def located(path, gps):
    exif = Image.Exif()
    exif[0x8825] = gps
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_exif_tells_where_an_image_was_taken(tmp_path, name):
    path = located(tmp_path / name, {1: "S", 2: (33.0, 30.0, 36.0), 3: "E", 4: (151.0, 12.0, 0.0)})
    assert gps_position(path) == pytest.approx((-33.51, 151.2))


@pytest.mark.parametrize(
    "gps",
    [
        {},
        {1: "N", 2: (1.0, 0.0, 0.0)},
        {1: "N", 2: (1.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)},
        {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)},
    ],
)
def test_no_position_or_an_impossible_one_is_none(tmp_path, gps):
    assert gps_position(located(tmp_path / "a.jpg", gps)) is None
    (tmp_path / "b.png").write_bytes(b"nothing")
    assert gps_position(tmp_path / "b.png") is None
    assert gps_position(tmp_path / "lost.png") is None


def test_values_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(FIMPError, match="mode F"):
        decode(tmp_path / "a.tif", 8)


@pytest.mark.parametrize(
    ("sizes", "side"), [([(40, 33)], 32), ([(500, 400)], 96), ([(6, 9)], 8), ([(64, 64)] * 3 + [(9, 9)], 64)]
)
def test_images_are_decoded_at_their_own_size_unless_they_are_large(tmp_path, sizes, side):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    assert default_side([broken, *(picture(tmp_path / f"{i}.png", size) for i, size in enumerate(sizes))]) == side
    assert default_side([broken]) == 96


@pytest.mark.parametrize(("side", "patch"), [(96, 16), (64, 8), (32, 4), (224, 32), (8, 1), (100, 10)])
def test_patches_are_six_or_more_to_a_side(side, patch):
    assert default_patch(side) == patch


def test_a_side_that_no_patch_divides_is_refused():
    with pytest.raises(FIMPError, match="--image-size: 97 is cut into no 6 to 16 patches a side; use 96"):
        default_patch(97)
