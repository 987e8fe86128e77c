import torch

from fimp.train.averaging import DECAY, WeightAverage


class Trainer:
    global_step = 0


def test_the_average_follows_the_weights_and_takes_their_place_where_it_counts():
    trainer, module, average = Trainer(), torch.nn.Linear(1, 1, bias=False), WeightAverage()
    module.device = torch.device("cpu")
    torch.nn.init.zeros_(module.weight)
    average.on_train_start(trainer, module)
    expected = 0.0
    for step in range(1, 2001):
        trainer.global_step = step
        torch.nn.init.constant_(module.weight, float(step))
        average.on_train_batch_end(trainer, module, None, None, 0)
        kept = min(DECAY, step / (step + 10))
        expected = kept * expected + (1 - kept) * step
    average.on_validation_epoch_start(trainer, module)
    assert abs(module.weight.item() - expected) < 0.1
    average.on_validation_epoch_end(trainer, module)
    assert module.weight.item() == 2000.0
    checkpoint = {"state_dict": {"weight": module.weight.detach().clone()}}
    average.on_save_checkpoint(trainer, module, checkpoint)
    other, restored = torch.nn.Linear(1, 1, bias=False), WeightAverage()
    other.load_state_dict(checkpoint["state_dict"])
    restored.on_load_checkpoint(trainer, other, checkpoint)
    assert other.weight.item() == 2000.0
    restored.on_fit_end(trainer, other)
    assert abs(other.weight.item() - expected) < 0.1


def test_frozen_weights_have_no_average_and_stay_in_the_checkpoint():
    trainer, module, average = Trainer(), torch.nn.Linear(2, 2), WeightAverage()
    module.device = torch.device("cpu")
    module.weight.requires_grad_(False)
    average.on_train_start(trainer, module)
    assert set(average.average) == {"bias"}
    trainer.global_step = 5
    average.on_train_batch_end(trainer, module, None, None, 0)
    checkpoint = {"state_dict": {name: tensor.clone() for name, tensor in module.state_dict().items()}}
    average.on_save_checkpoint(trainer, module, checkpoint)
    assert set(checkpoint["state_dict"]) == {"weight", "bias"}
    assert set(checkpoint["current"]) == {"bias"}
    other = torch.nn.Linear(2, 2)
    WeightAverage().on_load_checkpoint(trainer, other, checkpoint)
    assert torch.equal(other.weight, module.weight)
    assert torch.equal(other.bias, module.bias)


def test_shared_weights_are_the_same_under_all_their_names():
    trainer, average = Trainer(), WeightAverage()

    def shared():
        module = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 1, bias=False)})
        module["b"] = module["a"]
        module.device = torch.device("cpu")
        return module

    module = shared()
    torch.nn.init.zeros_(module["a"].weight)
    average.on_train_start(trainer, module)
    torch.nn.init.ones_(module["a"].weight)
    trainer.global_step = 5
    average.on_train_batch_end(trainer, module, None, None, 0)
    checkpoint = {"state_dict": {name: tensor.clone() for name, tensor in module.state_dict().items()}}
    average.on_save_checkpoint(trainer, module, checkpoint)
    expected = torch.tensor([[1.0 - 5 / 15]])
    assert all(torch.allclose(checkpoint["state_dict"][name], expected) for name in ("a.weight", "b.weight"))
    other, restored = shared(), WeightAverage()
    restored.on_load_checkpoint(trainer, other, checkpoint)
    assert other["a"].weight.item() == 1.0
    restored.on_fit_end(trainer, other)
    assert torch.allclose(other["a"].weight, expected)
