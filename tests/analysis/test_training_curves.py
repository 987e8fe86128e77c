from fimp.analysis.training_curves import training_curves


def rows(count):
    # Validation is not done in every epoch.
    return [
        {"epoch": str(k), "step": str(10 * k), "train_loss": f"{1 / (k + 1)}", "val_r2": "0.5" if k % 2 else ""}
        for k in range(count)
    ]


def test_every_run_is_a_line_and_every_model_a_colour():
    figure = training_curves({"gcn": [rows(6), rows(4)], "fimp-base": [rows(6)]}, "r2")
    left, right = figure.axes
    assert [len(line.get_xdata()) for line in left.lines] == [6, 4, 6]
    assert [len(line.get_xdata()) for line in right.lines] == [3, 2, 3]
    colours = [line.get_color() for line in left.lines]
    assert colours[0] == colours[1] != colours[2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gcn", "fimp-base"]


def test_a_single_epoch_can_be_seen():
    left = training_curves({"gcn": [rows(1)], "mlp": [rows(3)]}, "r2").axes[0]
    assert [line.get_marker() for line in left.lines] == ["o", ""]


def test_many_models_differ_by_colour_or_dashes():
    figure = training_curves({f"model {k}": [rows(3)] for k in range(12)}, "r2")
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 12
