from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import fimp
from fimp.data import simulate
from fimp.data.image_graph import ImageOptions, read_images
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.foundation.vit_mae import new_vit_mae, save_vit_mae
from fimp.models import resolve
from fimp.tasks import ImageTask, ImageTaskOptions, ZeroShotOptions, ZeroShotTask
from fimp.train import TrainOptions, evaluate, fit
from fimp.train.evaluation import predict_batches

OPTIONS = TrainOptions(epochs=3, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    simulate.images(folder, n_places=80, labelled=1.0, seed=1)
    return read_images(folder / "images.csv", ImageOptions(image_size=24))


@pytest.fixture(scope="module")
def task(data):
    return ImageTask(data, ImageTaskOptions(patch_size=8), seed=0)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vit"
    torch.manual_seed(0)
    save_vit_mae(new_vit_mae(16, 8, dim=16, layers=2, heads=2, hidden=16, decoder_dim=8, decoder_layers=1), folder)
    return folder


def small(name, vit):
    plain = "{}" not in name
    return resolve(name.format(vit), **({"dim": 16} if plain else {}))


MODELS = ["mean", "mlp", "gcn", "sage", "gat", "gin", "gps", "graphmae", "fimp-base", "fm:{}", "fimp:{}"]


@pytest.mark.parametrize("name", MODELS)
def test_predictions_do_not_depend_on_the_batch_or_on_labels(task, vit, name):
    choice = small(name, vit)
    torch.manual_seed(0)
    network = task.network(choice).eval()
    for parameter in network.parameters():
        if parameter.requires_grad and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    nodes = np.arange(12)

    def predictions(some):
        return torch.cat([prediction for prediction, _ in predict_batches(task, choice, network, some, OPTIONS)])

    whole = predictions(nodes)
    alone = torch.cat([predictions(nodes[k : k + 1]) for k in range(12)])
    torch.testing.assert_close(whole, alone, atol=1e-4, rtol=1e-4)
    labels = task.data.y.clone()
    try:
        task.data.y = (labels + 1) % task.data.num_classes
        again = predictions(nodes)
    finally:
        task.data.y = labels
    assert torch.equal(whole, again)


@pytest.mark.parametrize("name", ["mlp", "sage", "fimp-base", "fm:{}", "fimp:{}", "fimp:{},train=frozen"])
def test_every_kind_of_model_trains_and_repeats(task, vit, name):
    choice = small(name, vit)
    scores = [evaluate(task, choice, fit(task, choice, OPTIONS).network, task.split["test"], OPTIONS) for _ in range(2)]
    assert scores[0] == scores[1]
    assert set(scores[0]) == {"accuracy", "f1", "f1_macro"}


def test_training_sees_crops_and_evaluation_the_middle(task):
    nodes = np.arange(4)
    one, other = task.inputs(nodes, 0).content.pixels, task.inputs(nodes, 1).content.pixels
    assert one.shape == (4, 3, 24, 24)
    assert not torch.equal(one, other)
    middle = torch.from_numpy(task.data.pixels.read(nodes)).permute(0, 3, 1, 2)[:, :, 1:25, 1:25]
    assert torch.equal(task.shown(nodes).content.pixels, middle)


def test_models_of_cells_and_genes_are_refused(task, tmp_path):
    from fimp.foundation.scgpt_files import new_scgpt, save_scgpt

    save_scgpt(new_scgpt(["a", "b"], dim=8, layers=1, heads=2, hidden=8), tmp_path / "scgpt")
    with pytest.raises(FIMPError, match="reads no images"):
        task.network(resolve(f"fimp:{tmp_path / 'scgpt'}"))
    with pytest.raises(FIMPError, match="embeddings of genes"):
        task.network(resolve("fimp-base,genes=x.npz"))


def test_patches_must_fill_the_images(data):
    with pytest.raises(FIMPError, match="--patch-size: 7 does not divide --image-size 24"):
        ImageTask(data, ImageTaskOptions(patch_size=7))


def test_broken_images_leave_the_graph(tmp_path):
    simulate.images(tmp_path, n_places=50, labelled=1.0, seed=0)
    whole = read_images(tmp_path / "images.csv", ImageOptions(image_size=16))
    whole.paths[5].write_bytes(b"nothing")
    part = read_images(tmp_path / "images.csv", ImageOptions(image_size=16))
    assert part.num_nodes == whole.num_nodes - 1
    assert "1 images left out" in part.notes[-1]
    kept = np.delete(np.arange(whole.num_nodes), 5)
    assert [str(path) for path in part.paths] == [str(whole.paths[index]) for index in kept]
    assert torch.equal(part.y, whole.y[kept])
    assert int(part.edge_index.max()) < part.num_nodes
    with pytest.raises(FIMPError, match="--on-error skip"):
        read_images(tmp_path / "images.csv", ImageOptions(image_size=16, on_error="fail"))


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Images whose class anybody sees: a red, a green or a blue picture, each class on a patch of the map."""
    folder = tmp_path_factory.mktemp("coloured")
    generator = np.random.default_rng(0)
    rows = ["path,latitude,longitude,label"]
    for index in range(90):
        label = (0, 1, 0, 2)[index // 5 % 4]
        image = generator.integers(40, 120, (24, 24, 3))
        image[..., label] += 100
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{index // 5 * 0.3 + index % 5 * 0.02},{generator.random() * 0.05},{'rgb'[label]}")
    (folder / "images.csv").write_text("\n".join(rows))
    return read_images(folder / "images.csv", ImageOptions(image_size=24))


@pytest.mark.parametrize("name", ["mean", "sage", "fimp-base", "fm:{}", "fimp:{}"])
def test_zero_shot_trains_a_linear_classifier_alone(coloured, vit, name):
    data = coloured
    task = ZeroShotTask(data, ZeroShotOptions(patch_size=8, embeddings=60), seed=0)
    choice = small(name, vit)
    torch.manual_seed(task.seed)
    fresh = task.network(choice)
    fitted = fit(task, choice, OPTIONS)
    assert fitted.steps == 0
    for (key, before), after in zip(fresh.state_dict().items(), fitted.network.state_dict().values(), strict=True):
        if not key.startswith("head.") and key != "bias":
            assert torch.equal(before, after), key
    score = evaluate(task, choice, fitted.network, task.split["train"], OPTIONS)
    majority = float(torch.bincount(data.y[torch.from_numpy(task.split["train"])]).max()) / len(task.split["train"])
    assert score["accuracy"] >= majority - 0.03
    if name != "mean":
        assert score["accuracy"] > majority + 0.3


@pytest.mark.parametrize("lr", [1e-9, 100.0])
def test_foundation_models_start_from_a_linear_classifier_and_training_does_not_spoil_them(coloured, vit, lr):
    task = ImageTask(coloured, ImageTaskOptions(patch_size=8), seed=0)
    choice = small("fimp:{}", vit)
    choice = replace(choice, hyperparameters=replace(choice.hyperparameters, lr=lr))
    score = evaluate(task, choice, fit(task, choice, OPTIONS).network, task.split["val"], OPTIONS)
    assert score["accuracy"] > 0.8


def test_foundation_models_are_trained_slowly_unless_told_otherwise(task, vit):
    (row,) = task.rows([resolve(f"fimp:{vit}")])
    assert row.hyperparameters.lr == 1e-4
    (row,) = task.rows([resolve(f"fimp:{vit}", lr=3e-4)])
    assert row.hyperparameters.lr == 3e-4
    (row,) = task.rows([resolve("sage")])
    assert row.hyperparameters == resolve("sage").hyperparameters


def test_images_two_rings_away_are_heard_by_foundation_models(task, vit):
    """Of a path of three images, the last reaches the first through the one between."""
    choice = small("fimp:{}", vit)
    network = task.network(choice).eval()
    torch.nn.init.normal_(network.head.weight)
    one = task.inputs(np.arange(3), 0)
    graph = Subgraph(np.arange(3), torch.tensor([[1, 2], [0, 1]]), (1, 2, 3), (1, 2), torch.tensor([1, 1, 0]))
    before = network(one, graph)
    assert network.embed(one, graph).shape == (1, 3 * 16)
    pixels = one.content.pixels.clone()
    pixels[2] = 255 - pixels[2]
    assert not torch.allclose(network(one._replace(content=one.content._replace(pixels=pixels)), graph), before)


def test_zero_shot_draws_from_the_parts_of_the_split(data):
    whole = ImageTask(data, ImageTaskOptions(patch_size=8), seed=2).split
    split = ZeroShotTask(data, ZeroShotOptions(patch_size=8, embeddings=40, share=0.5), seed=2).split
    assert len(split["train"]) == 20
    assert set(split["train"]) <= {*whole["train"], *whole["val"]}
    assert set(split["test"]) <= set(whole["test"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: ImageTaskOptions(patch_size=0), "--patch-size: 0"),
        (lambda: ImageTaskOptions(class_weights="some"), "--class-weights: 'some'"),
        (lambda: ZeroShotOptions(embeddings=3), "--embeddings: 3"),
        (lambda: ZeroShotOptions(share=1.0), "--share: 1.0"),
        (lambda: ImageOptions(image_size=4), "--image-size: 4"),
    ],
)
def test_options_outside_their_range(options, message):
    with pytest.raises(fimp.FIMPError, match=message):
        options()


def test_zero_shot_is_the_same_whatever_training_is_told(data, vit):
    task, choice = ZeroShotTask(data, ZeroShotOptions(patch_size=8, embeddings=60), seed=0), small("fimp:{}", vit)
    told = [{}, {"stop_after": 0}, {"budget_seconds": 0.0}]
    heads = [fit(task, choice, OPTIONS, **more).network.head.weight for more in told]
    heads.append(fit(task, choice, TrainOptions(epochs=0, device="cpu")).network.head.weight)
    assert heads[0].abs().sum() > 0
    for head in heads[1:]:
        assert torch.equal(head, heads[0])
