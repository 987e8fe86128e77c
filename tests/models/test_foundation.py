import numpy as np
import pytest
import torch

from fimp.data import load_cells, simulate
from fimp.data.cells import CellOptions
from fimp.errors import FIMPError
from fimp.estimators import ExpressionModel
from fimp.foundation.scgpt_files import new_scgpt, save_scgpt
from fimp.models import resolve
from fimp.models.checkpoints import FoundationChoice
from fimp.models.foundation import FoundationBackbone, load_foundation
from fimp.models.registry import Hyperparameters
from fimp.tasks import CellTypeTask, ExpressionOptions, ExpressionTask
from fimp.tokenizers import Tokens
from fimp.train import NeighborSampler, TrainOptions, evaluate, fit
from fimp.train.loader import sampler_for


@pytest.fixture(scope="module")
def task():
    return ExpressionTask(
        load_cells(simulate.tissue(n_cells=120, n_genes=18, n_pairs=4, seed=2)), ExpressionOptions(members=1), seed=1
    )


@pytest.fixture(scope="module")
def folder(task, tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("models") / "scgpt"
    save_scgpt(new_scgpt(task.data.gene_names[:15], dim=16, layers=2, heads=2, hidden=16, dropout=0.1), path)
    return path


def network(task, name):
    torch.manual_seed(0)
    choice = resolve(name)
    built = task.network(choice)
    built.choice = choice
    torch.nn.init.normal_(built.head.weight)
    return built.eval()


def predict(task, built, seeds, change=lambda tokens: tokens):
    graph = sampler_for(task, built.choice, built.hops, 16).sample(np.asarray(seeds))
    tokens = task.inputs(graph.nodes, -1)
    with torch.no_grad():
        out = built(change(tokens), graph)
    return torch.where(tokens.take(graph.num_seeds).columns(out.size(1)).hidden, out, 0.0)


NAMES = ["fimp:{}", "fimp:{},aggregate=final", "fm:{}", "fimp:{},layers=-1:"]


@pytest.mark.parametrize("name", NAMES)
def test_predictions_do_not_depend_on_the_batch(task, folder, name):
    built = network(task, name.format(folder))
    whole = predict(task, built, np.arange(60))
    for seeds in ([7], [50, 7, 3]):
        part = predict(task, built, seeds)
        torch.testing.assert_close(part, whole[np.asarray(seeds)][:, : part.size(1)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_hidden_values_never_reach_the_model(task, folder, name):
    built = network(task, name.format(folder))

    def tamper(tokens):
        rubbish = torch.where(tokens.hidden | ~tokens.mask, 1e6, tokens.values)
        return tokens._replace(values=rubbish, targets=torch.full_like(tokens.targets, float("nan")))

    assert torch.equal(predict(task, built, np.arange(40), tamper), predict(task, built, np.arange(40)))


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_matter_to_fimp_and_not_to_the_model_alone(task, folder, name):
    built = network(task, name.format(folder))

    def louder(tokens):
        others = torch.arange(len(tokens.genes)) > 0
        return tokens._replace(values=tokens.values + others[:, None] * ~tokens.hidden * tokens.mask)

    same = torch.allclose(predict(task, built, [5], louder), predict(task, built, [5]))
    assert same == name.startswith("fm:")


def test_without_edges_fimp_is_the_model_alone(folder):
    torch.manual_seed(0)
    model = load_foundation(FoundationChoice(str(folder), graph=True))
    h = torch.randn(6, 5, 16)
    mask = torch.rand(6, 5) > 0.3
    graph = NeighborSampler(torch.zeros(2, 0, dtype=torch.int64), 6, [-1]).sample(np.arange(6))
    for aggregate in ("layer", "final"):
        choice = FoundationChoice(str(folder), graph=True, aggregate=aggregate)
        backbone = FoundationBackbone(choice, Hyperparameters(), model).eval()
        out = backbone(h, Tokens(h, mask), graph)
        wanted = model.stack.encode(h, mask)
        # What becomes of padding means nothing.
        torch.testing.assert_close(out[mask], wanted[mask], rtol=1e-4, atol=1e-5)


def test_a_node_counts_as_much_as_its_neighbours_together(folder):
    model = load_foundation(FoundationChoice(str(folder), graph=True))
    h, mask = torch.randn(4, 3, 16), torch.ones(4, 3, dtype=torch.bool)
    graph = NeighborSampler(torch.tensor([[1, 2, 3], [0, 0, 0]]), 4, [-1]).sample(np.arange(1))
    backbone = FoundationBackbone(FoundationChoice(str(folder), True, "final"), Hyperparameters(), model).eval()
    order = graph.nodes
    out = backbone(h[:1], Tokens(h[order], mask), graph)
    message = model.message("final")
    alone = [message(h[:1], h[j : j + 1], torch.zeros(2, 1, dtype=torch.int64)) for j in range(4)]
    torch.testing.assert_close(out, 0.5 * alone[0] + 0.5 * sum(alone[1:]) / 3, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("train", "trained"), [("frozen", set()), ("last-1", {"1"}), ("last-2", {"0", "1"}), ("full", {"0", "1"})]
)
def test_what_is_frozen_gets_no_gradient_and_no_optimizer_state(task, folder, train, trained):
    built = network(task, f"fimp:{folder},train={train}").train()
    moving = {name for name, parameter in built.named_parameters() if parameter.requires_grad}
    assert {"head.weight", "bias"} <= moving
    assert {name.split(".layers.")[1][0] for name in moving if ".layers." in name} == trained
    assert ("reader.gene.weight" in moving) == (train == "full")


def test_low_rank_changes_start_as_the_model_and_alone_are_trained(task, folder):
    pytest.importorskip("peft")
    plain, low = (network(task, f"fimp:{folder}{option}") for option in ("", ",train=lora-2"))
    low.head.load_state_dict(plain.head.state_dict())
    assert torch.equal(predict(task, low, np.arange(20)), predict(task, plain, np.arange(20)))
    moving = {name for name, parameter in low.named_parameters() if parameter.requires_grad}
    layers = {name for name in moving if ".layers." in name}
    assert len(layers) == 2 * 2 * 6
    assert all(".lora_" in name for name in layers)
    assert moving - layers == {"head.weight", "bias"}
    options = TrainOptions(epochs=3, device="cpu")
    fitted = fit(task, resolve(f"fimp:{folder},train=lora-2"), options)
    before, after = dict(low.named_parameters()), dict(fitted.network.named_parameters())
    changed = {name for name in before if ".layers." in name and not torch.equal(before[name], after[name])}
    assert changed
    assert changed <= layers


@pytest.mark.parametrize("kept", ["none", "genes", "layers"])
def test_controls_draw_the_rest_anew(folder, kept):
    torch.manual_seed(5)
    whole = load_foundation(FoundationChoice(str(folder), graph=True)).state_dict()
    part = load_foundation(FoundationChoice(str(folder), graph=True, weights=kept)).state_dict()
    same = {key for key in whole if whole[key].dim() > 1 and torch.equal(whole[key], part[key])}
    layers = {key for key in whole if key.startswith("stack.") and whole[key].dim() > 1}
    assert same == {"none": set(), "genes": {"gene_embedding.weight"}, "layers": layers}[kept]


@pytest.mark.parametrize("weights", ["all", "none", "genes", "layers"])
def test_new_heads_start_where_every_model_starts(task, folder, weights):
    choice = resolve(f"fm:{folder},weights={weights}")
    torch.manual_seed(0)
    score = evaluate(task, choice, task.network(choice).eval(), task.split["test"], TrainOptions(device="cpu"))
    assert (score["r2_gene"] > -0.8) == (weights != "all")


def test_more_layers_than_there_are_means_all_of_them(task, folder):
    built = network(task, f"fm:{folder},train=last-7")
    assert all(layer.q_proj.weight.requires_grad for layer in built.model.conv.message.stack.layers)


def test_notebooks_predict_with_foundation_models(folder):
    adata = simulate.tissue(n_cells=60, n_genes=18, n_pairs=4, seed=2)
    model = ExpressionModel(adata, model=f"fimp:{folder}")
    model.fit(max_epochs=1)
    assert np.isfinite(model.predict()).all()
    assert model.embed().shape == (60, 16)


def test_dropout_that_is_given_takes_the_place_of_the_checkpoints(task, folder):
    for dropout, wanted in ((None, 0.1), (0.0, 0.0), (0.4, 0.4)):
        model = task.network(resolve(f"fm:{folder}", dropout=dropout)).model
        stack = model.conv.message.stack
        assert {layer.config.dropout for layer in stack.layers} == {wanted} == {stack.config.dropout}


@pytest.mark.parametrize("name", ["fimp:{}", "fm:{}"])
def test_cell_types_are_learned(folder, name):
    adata = simulate.tissue(n_cells=150, n_genes=18, n_pairs=4, seed=2)
    counts = adata.X.toarray()
    adata.obs["kind"] = np.where(counts[:, 0] > np.median(counts[:, 0]), "high", "low")
    task = CellTypeTask(load_cells(adata, CellOptions(label="kind")), seed=0)
    choice, options = resolve(name.format(folder), lr=5e-3), TrainOptions(epochs=80, batch_size=32, device="cpu")
    fitted = fit(task, choice, options)
    assert evaluate(task, choice, fitted.network, task.split["train"], options)["accuracy"] > 0.7


def test_a_report_says_which_genes_the_model_knows(task, folder):
    assert task.network(resolve(f"fm:{folder}")).notes[0].startswith("genes: the model knows 15 of 18")


def test_gene_embeddings_of_a_file_serve_both_tasks(task, tmp_path):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(17, 40)) + 5.0
    np.savez(tmp_path / "genes.npz", genes=np.array([*task.data.gene_names[:16], "other"]), embeddings=vectors)
    choice = resolve(f"fimp-base,genes={tmp_path / 'genes.npz'}", dim=16)
    built = task.network(choice)
    assert "the model knows 16 of 18" in built.notes[0]
    table = built.encoder.tokenizer.gene.weight
    assert not table.requires_grad
    assert torch.equal(table[16:], torch.zeros(2, 40))
    assert torch.allclose(table[:16].mean(0), torch.zeros(40), atol=1e-6)
    names = built.encoder.tokenizer.names(torch.arange(16))
    assert 0.05 < names.std() < 0.2
    graph = sampler_for(task, choice, built.hops, 16).sample(np.arange(9))
    assert torch.isfinite(built(task.inputs(graph.nodes, 0), graph)).all()
    adata = simulate.tissue(n_cells=60, n_genes=18, n_pairs=4)
    adata.obs["kind"] = ["a", "b"] * 30
    types = CellTypeTask(load_cells(adata, CellOptions(label="kind")))
    assert types.network(choice).notes == built.notes


def test_a_folder_that_is_none_is_refused(task, tmp_path):
    with pytest.raises(FIMPError, match="does not exist"):
        task.network(resolve(f"fimp:{tmp_path / 'nothing'}"))
