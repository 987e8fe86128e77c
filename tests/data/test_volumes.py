import subprocess
import sys

import numpy as np
import pytest

from fimp.data.recordings import read_recordings, write_recordings
from fimp.data.volumes import read_atlas, read_volumes
from fimp.errors import FIMPError

nibabel = pytest.importorskip("nibabel")

#: Voxels of 2 mm, the first axis pointing left, as in MNI space.
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.0, 0, -8], [0, 0, 2.0, -6], [0, 0, 0, 1]])
T = 40
LABELS = np.zeros((6, 5, 4))
LABELS[:3], LABELS[3, :2], LABELS[4:, 3:] = 7, 2001, 12
NUMBERS = (7, 12, 2001)


def save(path, data, affine=AFFINE, tr=None, units="sec"):
    image = nibabel.Nifti1Image(np.asarray(data), affine)
    if tr is not None:
        image.header.set_xyzt_units("mm", units)
        image.header["pixdim"][4] = tr
    nibabel.save(image, path)
    return path


def brain(seed=0, labels=LABELS):
    """Voxels: the signal of their region plus noise that cancels out, and 0 elsewhere."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((3, T)) + 500.0
    voxels = np.zeros((*labels.shape, T))
    for row, number in enumerate(NUMBERS):
        inside = labels == number
        noise = rng.standard_normal((inside.sum(), T))
        voxels[inside] = signal[row] + noise - noise.mean(0)
    return signal, voxels


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    save(tmp_path / "atlas.nii.gz", LABELS.astype(np.float32))
    return tmp_path


def test_regions_lie_where_the_atlas_says(folder):
    atlas = read_atlas(folder / "atlas.nii.gz")
    assert atlas.regions.names == ("7", "12", "2001")
    # Region 7: voxels 0 to 2, 0 to 4, 0 to 3.
    np.testing.assert_allclose(atlas.regions.xyz[0], [10 - 2 * 1, -8 + 2 * 2, -6 + 2 * 1.5])
    np.testing.assert_allclose(atlas.regions.xyz[1], [10 - 2 * 4.5, -8 + 2 * 3.5, -6 + 2 * 1.5])


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_signals_are_means_of_regions(folder, ending):
    signal, voxels = brain()
    save(folder / "data" / f"sub-01_run-1_bold.{ending}", voxels.astype(np.float32), tr=0.8)
    found = read_recordings(folder / "data", atlas=folder / "atlas.nii.gz")
    (item,) = found.recordings
    np.testing.assert_allclose(item.signal, signal, rtol=1e-5)
    assert (item.subject, item.tr) == ("sub-01", 0.8)
    assert found.notes == ("signals are means over the voxels of 3 regions of atlas.nii.gz",)


def test_the_seconds_of_a_volume_have_a_unit(folder):
    _, voxels = brain()
    atlas = read_atlas(folder / "atlas.nii.gz")
    for tr, units, wanted in ((2000.0, "msec", 2.0), (2.0, "sec", 2.0), (0.0, "sec", None), (1.0, "unknown", None)):
        found = read_volumes(save(folder / "a.nii", voxels, tr=tr, units=units), atlas)
        assert found.tr == wanted


def test_an_atlas_on_another_grid_is_looked_up_by_place(folder):
    fine = LABELS.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    affine = AFFINE.copy()
    affine[:3, :3] /= 2
    # Centres of eight small voxels are that of the large one.
    affine[:3, 3] -= 0.5 * affine[:3, :3].sum(1)
    signal, voxels = brain()
    save(folder / "fine.nii.gz", fine, affine)
    found = read_volumes(save(folder / "a.nii", voxels), read_atlas(folder / "fine.nii.gz"))
    np.testing.assert_allclose(found.signal, signal)
    # A recording of a part of the brain has nothing of one region.
    shifted = AFFINE.copy()
    shifted[:3, 3] += AFFINE[:3, :3] @ [3, 0, 0]
    found = read_volumes(save(folder / "b.nii", voxels[3:], shifted), read_atlas(folder / "atlas.nii.gz"))
    np.testing.assert_allclose(found.signal[1:], signal[1:])
    assert np.isnan(found.signal[0]).all()


def test_voxels_that_say_nothing_count_nowhere(folder):
    signal, voxels = brain()
    inside = np.argwhere(LABELS == 7)
    kept = voxels.copy()
    kept[tuple(inside[0])], kept[tuple(inside[1])] = 0.0, np.nan
    kept[tuple(inside[2])] = 812.0
    wanted = voxels[tuple(inside[3:].T)].mean(0)
    found = read_volumes(save(folder / "a.nii", kept), read_atlas(folder / "atlas.nii.gz"))
    np.testing.assert_allclose(found.signal[0], wanted)
    np.testing.assert_allclose(found.signal[1:], signal[1:])
    kept[(*inside[3], 5)] = np.nan
    found = read_volumes(save(folder / "a.nii", kept), read_atlas(folder / "atlas.nii.gz"))
    assert np.isnan(found.signal[0]).all()


def test_a_table_names_the_regions_of_an_atlas(folder):
    table = folder / "labels.csv"
    table.write_text("name,index\nleft,2001\nnowhere,3\nright,7\nmiddle,12\n")
    atlas = read_atlas(folder / "atlas.nii.gz", table)
    assert atlas.regions.names == ("right", "middle", "left")
    table.write_text("name\nright\nmiddle\nleft\n")
    assert read_atlas(folder / "atlas.nii.gz", table).regions.names == ("right", "middle", "left")
    table.write_text("index,x,y,z,network\n7,1,2,3,a\n12,4,5,6,b\n2001,7,8,9,c\n")
    found = read_atlas(folder / "atlas.nii.gz", table).regions
    assert found.names == ("7", "12", "2001")
    assert found.networks == ("a", "b", "c")
    assert found.xyz.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    for rows, words in (("index\n7\n12\n", "no row with index 2001"), ("name\na\nb\n", "2 rows and no column 'index'")):
        table.write_text(rows)
        with pytest.raises(FIMPError, match=words):
            read_atlas(folder / "atlas.nii.gz", table)


def test_what_was_parcellated_can_be_written(folder):
    for number in (1, 2):
        save(folder / "data" / f"sub-0{number}.nii.gz", brain(number)[1], tr=2.0)
    found = read_recordings(folder / "data", atlas=folder / "atlas.nii.gz")
    again = read_recordings(write_recordings(found, folder / "out"))
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["regions.csv", "sub-01.npz", "sub-02.npz"]
    assert again.regions.names == found.regions.names
    np.testing.assert_array_equal(again.regions.xyz, found.regions.xyz)
    for one, other in zip(found.recordings, again.recordings, strict=True):
        np.testing.assert_array_equal(one.signal, other.signal)
        assert (one.subject, one.tr) == (other.subject, other.tr)
    with pytest.raises(FIMPError, match="is not empty"):
        write_recordings(found, folder / "out")


VOXELS, FAR = brain()[1], AFFINE.copy()
FAR[0, 3] += 900
BAD = {
    "no-files": (lambda f: None, "no images; with --atlas, wanted .nii or .nii.gz"),
    "no-atlas": (lambda f: (f / "atlas.nii.gz").unlink(), "--atlas: .*atlas.nii.gz: no such file"),
    "no-image": (lambda f: (f / "data" / "a.nii").write_bytes(b"nothing" * 100), "a.nii: damaged or of another format"),
    "no-gzip": (lambda f: (f / "data" / "a.nii.gz").write_bytes(b"nothing" * 100), r"a.nii.gz: "),
    "one-volume": (lambda f: save(f / "data" / "a.nii", LABELS), r"shape \[6, 5, 4\], wanted a recording"),
    "elsewhere": (
        lambda f: save(f / "data" / "a.nii", VOXELS, FAR),
        "a.nii: no voxel is in a region of .*atlas.nii.gz",
    ),
    "nothing": (lambda f: save(f / "data" / "a.nii", 0 * VOXELS), "a.nii: all regions are constant or have NaN"),
    "atlas-4d": (lambda f: save(f / "atlas.nii.gz", VOXELS), r"shape \[6, 5, 4, 40\], wanted an atlas"),
    "atlas-parts": (lambda f: save(f / "atlas.nii.gz", LABELS + 0.5), "the value 7.5, wanted whole numbers"),
    "atlas-signs": (lambda f: save(f / "atlas.nii.gz", LABELS - 1), "the value -1, wanted whole numbers"),
    "atlas-empty": (lambda f: save(f / "atlas.nii.gz", 0 * LABELS), "all voxels are 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_images_are_one_line(folder, kind):
    if kind != "no-files":
        save(folder / "data" / "b.nii", VOXELS)
    break_it, words = BAD[kind]
    break_it(folder)
    with pytest.raises(FIMPError, match=words) as error:
        read_recordings(folder / "data", atlas=folder / "atlas.nii.gz")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_truncated_image_is_one_line(folder, ending):
    path = save(folder / "data" / f"a.{ending}", VOXELS)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(FIMPError, match=rf"a\.{ending}: ") as error:
        read_recordings(folder / "data", atlas=folder / "atlas.nii.gz")
    assert "\n" not in str(error.value)


def test_images_want_an_atlas_and_an_atlas_wants_images(folder):
    path = save(folder / "data" / "a.nii.gz", VOXELS)
    (folder / "data" / "regions.csv").write_text("x,y,z\n1,2,3\n")
    with pytest.raises(FIMPError, match="or --atlas and images"):
        read_recordings(folder / "data")
    with pytest.raises(FIMPError, match="give it by --atlas"):
        read_recordings(path)
    with pytest.raises(FIMPError, match=r"with --atlas, wanted \.nii or \.nii\.gz"):
        read_recordings(folder / "data" / "regions.csv", atlas=folder / "atlas.nii.gz")
    with pytest.raises(FIMPError, match=r"no\.csv: no table of regions there"):
        read_recordings(path, folder / "no.csv", folder / "atlas.nii.gz")


def test_signals_on_surfaces_are_refused(folder):
    axes = nibabel.cifti2.SeriesAxis(0, 2, 4), nibabel.cifti2.ScalarAxis(["a", "b"])
    nibabel.save(nibabel.Cifti2Image(np.ones((4, 2)), axes), folder / "data" / "a.dtseries.nii")
    with pytest.raises(FIMPError, match="Cifti2Image, wanted a NIfTI image of voxels"):
        read_recordings(folder / "data", atlas=folder / "atlas.nii.gz")


def test_images_are_compared_and_models_trained(run_cli, folder):
    for number in range(3):
        save(folder / "data" / f"sub-0{number}.nii.gz", brain(number)[1], tr=2.0)
    code, text, err = run_cli(
        "compare", "fmri", "--data", folder / "data", "--atlas", folder / "atlas.nii.gz", "--window", 20, "--patch", 5,
        "--neighbors", 1, "--band-pass", 0.01, 0.1, "--models", "mean,gcn+mean", "--epochs", 1, "--seeds", 1,
        "--device", "cpu", "--jobs", 1, "--out", folder / "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "means over the voxels of 3 regions" in text
    assert "band-pass filter: 0.01 to 0.1 Hz" in text
    assert run_cli("repeat", folder / "out" / "runs" / "gcn+mean" / "seed0").code == 0


def test_without_the_package_the_error_says_what_to_do(run_cli, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    (folder / "data" / "a.nii").write_bytes(b"")
    code, _, err = run_cli(
        "compare", "fmri", "--data", folder / "data", "--atlas", folder / "atlas.nii.gz", "--out", folder / "o"
    )
    assert code == 2
    assert err.count("\n") == 1
    assert "atlas.nii.gz" in err
    assert "pip install 'fimp[nifti]'" in err
    assert not (folder / "o").exists()


def test_the_package_is_not_imported_unasked(tmp_path):
    code = (
        "import sys; from fimp.data import simulate, read_recordings; "
        f"read_recordings(simulate.recordings({str(tmp_path / 'r')!r})); assert 'nibabel' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
