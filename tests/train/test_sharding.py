import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from fimp.foundation.scgpt_files import new_scgpt, save_scgpt
from fimp.nn import FIMPConv, FoundationMessage
from fimp.nn.stack_config import StackConfig
from fimp.nn.transformer import TransformerStack
from fimp.train.callbacks import read_metrics
from fimp.train.checkpoint import load_tree
from fimp.train.sharding import gather, like, shard

SCRIPT = Path(__file__).with_name("together.py")
_spec = importlib.util.spec_from_file_location("together", SCRIPT)
together = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(together)

#: Seeds per process, such that one seed of the training part is left over; epochs, of which half are done before a cut.
BATCH, EPOCHS = 18, 2


@pytest.fixture(scope="module")
def scgpt(tmp_path_factory):
    """A model of three layers, no number of which divides evenly."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "scgpt"
    save_scgpt(new_scgpt(together.tissue().gene_names, dim=18, layers=3, heads=2, hidden=21), folder)
    return f"fimp:{folder}"


@pytest.fixture(scope="module")
def one(scgpt, tmp_path_factory):
    """Runs of one process with twice the batch, by model."""
    folder = tmp_path_factory.mktemp("one")
    names = ("mlp", "fimp-base", scgpt, f"{scgpt},aggregate=final")
    return {
        name: (together.train(folder / str(place), name, 2 * BATCH, EPOCHS), folder / str(place))
        for place, name in enumerate(names)
    }


@pytest.fixture(scope="module")
def names(scgpt):
    return ["shard:mlp", "shard:fimp-base", f"shard:{scgpt},aggregate=final", f"cut:uneven:shard:{scgpt}"]


@pytest.fixture(scope="module")
def two(scgpt, names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    together.torchrun(SCRIPT, folder, BATCH, EPOCHS, *names, f"left:shard:{scgpt}")
    return folder


def runs(one, two, name):
    """How a model was trained by one process, and by two: results and folders."""
    wanted, folder = one[name[name.index("shard:") + len("shard:") :]]
    found = [json.loads((two / f"{rank}.json").read_text())[name] for rank in range(2)]
    assert found[0] == found[1]
    return wanted, found[0], folder, two / together.folder_of(name)


def losses(folder):
    return [float(row["train_loss"]) for row in read_metrics(folder / "metrics.csv")]


@pytest.mark.parametrize("place", range(4), ids=["mlp", "fimp-base", "final", "cut"])
def test_two_processes_that_share_weights_out_train_as_one_with_twice_the_batch(one, two, names, place):
    """Also where the run is killed, and where only one of them computes layers anew in the backward pass."""
    wanted, found, *folders = runs(one, two, names[place])
    assert wanted["train"] % (2 * BATCH) == 1
    assert found["steps"] == wanted["steps"]
    assert found["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
    assert losses(folders[0]) == pytest.approx(losses(folders[1]), abs=1e-5)
    assert len(losses(folders[0])) == EPOCHS


@pytest.mark.parametrize("place", range(4), ids=["mlp", "fimp-base", "final", "cut"])
@pytest.mark.parametrize("file", ["last", "best"])
def test_checkpoints_are_those_of_one_process(one, two, names, place, file):
    *_, alone, shared = runs(one, two, names[place])
    trees = [load_tree(folder / "checkpoints" / f"{file}.safetensors") for folder in (alone, shared)]
    parts = ["state_dict"] if file == "best" else ["state_dict", "current", "optimizer_states"]
    for part in parts:
        (wanted, kind), (found, same) = (torch.utils._pytree.tree_flatten(tree[part]) for tree in trees)
        assert kind == same
        assert len(wanted) >= 10
        for first, second in zip(wanted, found, strict=True):
            if isinstance(first, torch.Tensor):
                torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-3)
            else:
                assert first == second


def test_one_process_goes_on_with_what_two_left(one, two, scgpt, tmp_path):
    """Checkpoints hold whole weights and optimizer states."""
    wanted, folder = one[scgpt]
    shutil.copytree(two / together.folder_of(f"left:shard:{scgpt}"), tmp_path / "run")
    found = together.train(tmp_path / "run", scgpt, 2 * BATCH, EPOCHS)
    assert found["steps"] == wanted["steps"]
    assert found["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
    assert losses(tmp_path / "run") == pytest.approx(losses(folder), abs=1e-5)


@pytest.mark.parametrize("command", [("compare", "expression"), ("pretrain", "scgpt")])
def test_one_process_has_nobody_to_share_weights_with(run_cli, tmp_path, command):
    outcome = run_cli(*command, "--data", "missing.h5ad", "--shard", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "--shard: shares weights out over processes, and there is one; start several with torchrun" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_tensor_is_shared_out_as_a_weight_only_where_that_is():
    tensor = torch.arange(3.0)
    assert torch.equal(like(tensor, torch.zeros(3)), tensor)


@pytest.fixture
def group():
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(("aggregate", "apart"), [("layer", 3), ("final", 0)])
@pytest.mark.usefixtures("group")
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # as fimp.train.trainer.Quiet does
def test_layers_are_made_whole_one_by_one_where_they_run_once(aggregate, apart):
    config = StackConfig(dim=8, heads=2, hidden=12, layers=3)
    plain, shared = (FIMPConv(FoundationMessage(TransformerStack(config), aggregate)) for _ in range(2))
    shared.load_state_dict(plain.state_dict())
    shard(shared, torch.device("cpu"))
    layers = shared.message.stack.layers
    assert sum(isinstance(layer, FSDPModule) for layer in layers) == apart
    assert isinstance(shared, FSDPModule)
    h, edges = torch.randn(4, 5, 8), torch.tensor([[0, 1, 3], [1, 2, 2]])
    for network in (plain, shared):
        network(h, edges).square().sum().backward()
        # After a step, all weights are in their parts again.
        assert all(isinstance(weight, DTensor) == (network is shared) for weight in network.parameters())
    for weight, part in zip(plain.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, part.grad.full_tensor())
    whole = gather(shared, FIMPConv(FoundationMessage(TransformerStack(config), aggregate)))
    assert all(torch.equal(weight, other) for weight, other in zip(plain.parameters(), whole.parameters(), strict=True))
