import numpy as np
import pytest
import torch

from fimp.data import CellOptions, load_cells, simulate
from fimp.errors import FIMPError
from fimp.models import resolve
from fimp.tasks import CellTypeOptions, CellTypeTask
from fimp.train import NeighborSampler


@pytest.fixture(scope="module")
def data():
    return load_cells(simulate.tissue(n_cells=150, n_genes=18, n_pairs=4), CellOptions(label="cell_type"))


@pytest.mark.parametrize("name", ["mlp", "gcn", "fimp-base"])
def test_predictions_do_not_depend_on_the_batch_or_on_labels(data, name):
    task = CellTypeTask(data, seed=1)
    torch.manual_seed(0)
    network = task.network(resolve(name, dim=16)).eval()
    torch.nn.init.normal_(network.head.weight)

    def predict(seeds, labels=lambda y: y):
        graph = NeighborSampler(data.edge_index, 150, [-1] * network.hops).sample(np.asarray(seeds))
        inputs = task.inputs(graph.nodes, -1)
        with torch.no_grad():
            return network(inputs._replace(labels=labels(inputs.labels)), graph)

    whole = predict(np.arange(60))
    torch.testing.assert_close(predict([50, 3]), whole[[50, 3]], rtol=1e-4, atol=1e-5)
    assert torch.equal(predict(np.arange(60), lambda y: y * 0), whole)


def test_nothing_is_hidden_and_every_expressed_gene_is_shown(data):
    inputs = CellTypeTask(data).inputs(np.arange(20), 0)
    assert not inputs.content.hidden.any()
    assert inputs.content.mask.sum(1).tolist() == np.diff(data.x.crow_indices()[:21]).tolist()


def test_an_untrained_model_predicts_the_frequencies_of_training(data):
    task = CellTypeTask(data)
    for name in ("mean", "gcn", "fimp-base"):
        network = task.network(resolve(name, dim=16)).eval()
        graph = NeighborSampler(data.edge_index, 150, [-1] * network.hops).sample(np.arange(5))
        scores = network(task.inputs(graph.nodes, -1), graph)
        torch.testing.assert_close(scores.softmax(1), task.log_prior.exp().expand(5, -1))


def test_every_parameter_receives_a_gradient(data):
    task = CellTypeTask(data, CellTypeOptions(class_weights="balanced"))
    network = task.network(resolve("fimp-base", dim=16)).train()
    torch.nn.init.normal_(network.head.weight)
    graph = NeighborSampler(data.edge_index, 150, [-1] * network.hops).sample(np.arange(60))
    inputs = task.inputs(graph.nodes, 0)
    task.loss(network(inputs, graph), inputs.take(60)).backward()
    # Nothing is asked for, so what stands for hidden genes is not used here.
    unused = ("k_proj.bias", "mask_token", "hidden")
    missing = [
        n
        for n, p in network.named_parameters()
        if not any(part in n for part in unused) and (p.grad is None or not p.grad.any())
    ]
    assert not missing


def test_classes_of_the_test_part_alone_are_noted(small_adata):
    small_adata.obs["slice"] = ["A"] * 20 + ["B"] * 10
    small_adata.obs["type"] = ["T0", "T1"] * 10 + ["Q"] * 6 + ["R"] * 2 + ["T0"] * 2
    data = load_cells(small_adata, CellOptions(label="type", test_section="B"))
    wanted = "split of seed 2: 8 test cells are of classes that no training cell has (Q, R)"
    for _ in range(2):
        task = CellTypeTask(data, seed=2)
        assert data.notes.count(wanted) == 1
    count = len(data.notes)
    CellTypeTask(data, seed=3, state=task.state())
    assert len(data.notes) == count
    small_adata.obs["type"] = ["T0", "T1"] * 15
    plain = load_cells(small_adata, CellOptions(label="type", test_section="B"))
    CellTypeTask(plain)
    assert not any("no training cell" in note for note in plain.notes)


@pytest.mark.parametrize("labels", [1, 4, 7])
def test_labels_in_the_test_section_alone_are_too_few(small_adata, labels):
    small_adata.obs["slice"] = ["A"] * 15 + ["B"] * 15
    small_adata.obs["type"] = [*(["a", "b"] * 4)[:labels], *[None] * (15 - labels), *["a", "b", "a"] * 5]
    data = load_cells(small_adata, CellOptions(label="type", test_section="B"))
    with pytest.raises(FIMPError, match=f"AnnData: --test-section leaves {labels} cells with a label"):
        CellTypeTask(data)


def test_data_without_labels_and_bad_options_are_refused():
    bare = load_cells(simulate.tissue(n_cells=30, n_genes=18, n_pairs=4))
    with pytest.raises(FIMPError, match="--label"):
        CellTypeTask(bare)
    for options, message in (
        ({"tokens": 0}, "--tokens: 0"),
        ({"split": "half"}, "--split: 'half'"),
        ({"class_weights": "some"}, "--class-weights: 'some'"),
    ):
        with pytest.raises(FIMPError, match=message):
            CellTypeOptions(**options)
