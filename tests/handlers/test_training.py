"""What a training leaves behind: the best model with its own report, and a checkpoint that goes on as if never cut."""

from __future__ import annotations

import csv
import fcntl
import json
import math
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import nn

from monai_cryo.data import CounterSampler
from monai_cryo.handlers import (
    AverageWeights,
    Checkpoints,
    DrawnParameters,
    KeepBest,
    LazySummaryWriter,
    Report,
    SetEpoch,
    ValidationScalars,
)
from monai_cryo.handlers import best as best_module
from monai_cryo.handlers import checkpoints as checkpoints_module
from monai_cryo.networks import facts_in, with_facts

FACTS = {"classes": ["a", "b"]}


def table(score):
    """What TwoBranchMetrics leaves, as far as the report reads it."""
    scores = dict.fromkeys(
        ("accuracy", "balanced_accuracy", "pixel_accuracy", "mean_iou", "class_mean_iou", "threshold"), score
    )
    by_class = {"a": score}
    return {**scores, "n": 1, "classes": ["a"], "recall": by_class, "iou": by_class, "confusion_matrix": [[1]]}


def validate(tmp_path, scores, keeper=None):
    """Run one evaluation a score; before the n-th the network's weight is n."""
    network = nn.Linear(1, 1, bias=False)
    keeper = keeper or KeepBest(network, str(tmp_path))
    metrics = SimpleNamespace(summary={})
    engine = Engine(lambda engine, batch: None)

    @engine.on(Events.COMPLETED)
    def score(engine):
        metrics.summary = table(scores[engine.state.epoch - 1])
        engine.state.metrics["mean_iou"] = metrics.summary["mean_iou"]

    Report(metrics, str(tmp_path), title="epoch {epoch}", best_only=True).attach(engine)
    keeper.attach(engine)
    for epoch in range(1, len(scores) + 1):
        nn.init.constant_(keeper.network.weight, epoch)
        engine.state.max_epochs = None
        engine.add_event_handler(Events.STARTED, lambda e, n=epoch: setattr(e.state, "epoch", n - 1))
        engine.run([0], max_epochs=epoch)
    return keeper


@pytest.mark.parametrize(("scores", "best"), [((0.2, 0.7, 0.5), 2), ((0.4, 0.3), 1), ((0.1, 0.1, 0.6), 3)])
def test_report_and_model_are_of_the_same_epoch(tmp_path, capsys, scores, best):
    validate(tmp_path, scores)
    assert json.loads((tmp_path / "metrics.json").read_text())["mean_iou"] == scores[best - 1]
    assert float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]) == best
    said = capsys.readouterr().out
    assert all(f"epoch {n}" in said for n in range(1, len(scores) + 1))  # every table is shown


def test_a_failed_save_leaves_the_last_model(tmp_path, monkeypatch):
    keeper = validate(tmp_path, (0.2,))

    def full_disk(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(best_module.torch, "save", full_disk)
    keeper.score = 0.1
    with pytest.raises(OSError, match="No space"):
        keeper(SimpleNamespace(state=SimpleNamespace(metrics={"mean_iou": 0.9}, epoch=2)))
    assert float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "metrics.json"}


@pytest.mark.parametrize("what", ["torch", "text"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, what):
    """A real one, of 64 KiB: torch makes a RuntimeError of it, and other writers name no file."""
    program = f"""
import resource, sys, torch
from pathlib import Path
from monai_cryo._refusals import find_refusal
from monai_cryo.handlers.best import save_whole
from monai_cryo.io.atomic import write_text
path = Path({str(tmp_path)!r}) / "model.pt"
save = save_whole if {what!r} == "torch" else lambda size, path: write_text(path, "x" * 4 * len(size["w"]))
save({{"w": torch.zeros(9)}}, path)
before = path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    save({{"w": torch.zeros(1 << 20)}}, path)
except OSError as error:
    assert find_refusal(error) is error, error
    print(error)
assert path.read_bytes() == before
assert [p.name for p in path.parent.iterdir()] == ["model.pt"]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[Errno 27] File too large: '{tmp_path / 'model.pt'}'\n"


def test_nothing_beats_a_score_that_was_never_reached(tmp_path):
    keeper = validate(tmp_path, (float("nan"), 0.3, float("nan"), 0.2))
    assert (keeper.score, keeper.epoch) == (0.3, 2)
    other = KeepBest(nn.Linear(1, 1, bias=False), str(tmp_path))
    other.load_state_dict(keeper.state_dict())
    assert (other.score, other.epoch) == (0.3, 2)
    elsewhere = KeepBest(nn.Linear(1, 1), str(tmp_path / "elsewhere"))
    elsewhere.load_state_dict(keeper.state_dict())
    assert elsewhere.epoch == 0  # its model is not there: the first one is the best


def one_cycle(optimizer, steps):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=optimizer.param_groups[0]["lr"], total_steps=steps)


def step_down(optimizer, steps):
    return torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)


def training(
    folder,
    *,
    max_epochs,
    resume=None,
    schedule=None,
    lr=0.1,
    items=8,
    facts=FACTS,
    ema=0.9,
    seed=0,
    loader=None,
    minutes=None,
    writer=None,
    handlers=(),
    log=None,
    provenance=None,
):
    """Four iterations an epoch of a network with dropout; returns trainer, network, rates and averaged network."""
    torch.manual_seed(0)
    network = with_facts(nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1)), facts)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    scheduler = schedule and schedule(optimizer, 4 * max_epochs)
    data = [{"image": torch.full((2,), float(i)), "label": torch.ones(1)} for i in range(items)]
    rates = []
    average = AverageWeights(network, ema)
    state = {"network": network, "averaging": average, "optimizer": optimizer, "best": KeepBest(network, str(folder))}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=max_epochs,
        train_data_loader=loader or torch.utils.data.DataLoader(data, batch_size=items // 4, shuffle=True),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        decollate=False,
        train_handlers=[
            *(handler for handler in handlers if hasattr(handler, "attach")),
            average,
            Checkpoints(state, str(folder), scheduler, resume, seed, minutes, writer, provenance),
        ],
    )
    for attach in [*(handler for handler in handlers if not hasattr(handler, "attach")), *([log] if log else [])]:
        attach(trainer)

    @trainer.on(Events.ITERATION_COMPLETED)
    def step(engine):
        rates.append((optimizer.param_groups[0]["lr"], engine.state.output["loss"].item()))
        if scheduler is not None:
            scheduler.step()

    trainer.run()
    return SimpleNamespace(trainer=trainer, network=network, log=rates, average=average.network)


class KilledError(Exception):
    pass


class Items(torch.utils.data.Dataset):
    """Every index has its item, also beyond the length."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"image": torch.full((2,), index / 10), "label": torch.ones(1)}


def counted(folder, *, killed_after=None, workers=0, **options):
    """Train on items that never repeat, saved after every iteration, and perhaps die where one begins."""
    sampler = CounterSampler(8)
    loader = torch.utils.data.DataLoader(Items(), batch_size=2, sampler=sampler, num_workers=workers)

    def die(engine):
        if engine.state.iteration == killed_after:
            raise KilledError

    handlers = [SetEpoch(sampler), lambda engine: engine.add_event_handler(Events.GET_BATCH_COMPLETED, die)]
    return training(folder, max_epochs=3, loader=loader, minutes=0, handlers=handlers, **options)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on machines of one core
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("schedule", [None, one_cycle])
def test_a_run_goes_on_in_the_middle_of_an_epoch(tmp_path, schedule, workers):
    """Wherever it is killed, and killed again, its losses are those of the uninterrupted run, bit for bit."""
    whole = counted(tmp_path / "whole", schedule=schedule)
    assert len({loss for _, loss in whole.log}) == 12
    for kills in [(1, 2, 7)] if workers else [(1,), (4,), (6,), tuple(range(1, 12))]:
        folder, before = tmp_path / str(kills), 0
        for kill in kills:
            with pytest.raises(KilledError):
                counted(folder, schedule=schedule, workers=workers, killed_after=kill, resume="auto")
            done = torch.load(folder / "checkpoint.pt", weights_only=True)["done"]
            assert done == {"iteration": kill, "epoch": kill // 4}
            before = kill
        resumed = counted(folder, schedule=schedule, workers=workers, resume="auto")
        assert resumed.log == whole.log[before:]
        assert resumed.trainer.state.epoch == 3
        for ours, theirs in ((resumed.network, whole.network), (resumed.average, whole.average)):
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize(("minutes", "saves"), [(None, 3), (0, 12), (1, 6)])
def test_checkpoints_come_after_every_epoch_and_every_few_minutes(tmp_path, monkeypatch, minutes, saves):
    """Here an iteration takes 31 seconds."""
    clock, saved = [0.0], []
    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoints_module, "save_whole", lambda content, path: saved.append(content["done"]))

    def tick(engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: clock.__setitem__(0, clock[0] + 31))

    training(tmp_path, max_epochs=3, minutes=minutes, handlers=[tick])
    assert len(saved) == saves
    assert saved[-1] == {"epoch": 3, "iteration": 12}


@pytest.mark.parametrize("minutes", [-1, "soon", math.nan, True])
def test_minutes_are_a_number(tmp_path, minutes):
    with pytest.raises(ValueError, match="checkpoint_minutes must be a number >= 0 or null, got"):
        Checkpoints({}, str(tmp_path), minutes=minutes)


def test_the_log_is_whole_up_to_the_checkpoint_and_tells_nothing_twice(tmp_path, monkeypatch):
    # files of one second are read in the order of their names, which end in a count: 10 would stand before 9
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))

    def log(engine):
        engine.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda: writer.add_scalar("loss", engine.state.output["loss"].item(), engine.state.iteration),
        )

    for options in ({"killed_after": 6}, {"killed_after": 9}, {}):
        writer = LazySummaryWriter(str(tmp_path))
        try:
            counted(tmp_path, resume="auto", writer=writer, log=log, **options)
        except KilledError:
            # what the killed run logged and did after its last checkpoint is done again
            checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
            assert checkpoint["done"]["iteration"] == options["killed_after"]
            writer.add_scalar("loss", -1.0, checkpoint["done"]["iteration"] + 1)
        writer.flush()
        writer.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [event.step for event in events] == list(range(1, 13))
    whole = counted(tmp_path / "whole")
    assert [event.value for event in events] == pytest.approx([loss for _, loss in whole.log], rel=1e-6)


def test_a_run_begun_anew_does_not_go_on_with_an_earlier_one(tmp_path):
    """Killed before its first checkpoint it begins again; the earlier run's checkpoint is set aside."""
    training(tmp_path, max_epochs=2)
    earlier = (tmp_path / "checkpoint.pt").read_bytes()

    def die(engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: (_ for _ in ()).throw(KilledError))

    with pytest.raises(KilledError):
        training(tmp_path, max_epochs=2, lr=0.2, handlers=[die])
    assert (tmp_path / "checkpoint_before.pt").read_bytes() == earlier
    whole = training(tmp_path / "whole", max_epochs=2, lr=0.2)
    assert training(tmp_path, max_epochs=2, lr=0.2, resume="auto").log == whole.log


def test_the_longer_of_earlier_runs_is_kept(tmp_path):
    """With its model and scores; a run begun anew twice loses nothing of it."""
    names = {name: name.replace(".", "_before.") for name in ("checkpoint.pt", *checkpoints_module._RESULTS)}

    def begin(epochs):
        def leave(engine):
            engine.add_event_handler(Events.COMPLETED, lambda: [(tmp_path / n).write_text(str(epochs)) for n in rest])

        rest = checkpoints_module._RESULTS
        training(tmp_path, max_epochs=epochs, handlers=[leave])
        return {name: (tmp_path / name).read_bytes() for name in names}

    def kept():
        return {name: (tmp_path / before).read_bytes() for name, before in names.items()}

    long = begin(3)
    begin(1)
    assert kept() == long
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    longest = begin(4)
    assert kept() == long
    begin(1)
    assert kept() == longest


def test_the_log_tells_of_the_last_run_alone(tmp_path, monkeypatch):
    """Of two that were killed before a checkpoint, and of one begun anew."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for value in (1.0, 2.0):
        writer = LazySummaryWriter(str(tmp_path))
        for step in (1, 2, 3):
            writer.add_scalar("loss", value, step)
        writer.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 2.0), (2, 2.0), (3, 2.0)]


@pytest.mark.parametrize("schedule", [None, one_cycle, step_down])
def test_a_resumed_run_is_the_run_it_would_have_been(tmp_path, schedule):
    """Losses with dropout and shuffling, rates, weights and averages, bit for bit."""
    whole = training(tmp_path / "whole", max_epochs=3, schedule=schedule)
    planned = schedule and (lambda optimizer, _: schedule(optimizer, 12))  # the length it had before it was cut
    training(tmp_path / "cut", max_epochs=2, schedule=planned)
    resumed = training(tmp_path / "cut", max_epochs=3, schedule=schedule, resume="auto")
    assert resumed.trainer.state.iteration == 12
    assert resumed.log == whole.log[8:]
    for ours, theirs in ((resumed.network, whole.network), (resumed.average, whole.average)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_quick_run_can_be_extended(tmp_path):
    """The one-cycle schedule that was to end goes on as in a run of the new length."""
    training(tmp_path, max_epochs=2, schedule=one_cycle)
    longer = training(tmp_path, max_epochs=4, schedule=one_cycle, resume=str(tmp_path / "checkpoint.pt"))
    whole = training(tmp_path / "whole", max_epochs=4, schedule=one_cycle)
    assert [rate for rate, _ in longer.log] == [rate for rate, _ in whole.log[8:]]


def test_options_given_on_resume_are_used(tmp_path):
    training(tmp_path, max_epochs=1)
    assert {rate for rate, _ in training(tmp_path, max_epochs=2, lr=0.003, resume="auto").log} == {0.003}


def test_what_has_changed_since_is_said(tmp_path, capsys):
    before = {"config": {"snr": [0.03, 10], "max_epochs": 1, "resume": None, "size": [1, 2]}}
    now = {"config": {"snr": [0.1, 2], "max_epochs": 2, "resume": "auto", "size": [1, 2], "new": 3}}
    training(tmp_path, max_epochs=1, provenance=before)
    training(tmp_path, max_epochs=2, resume="auto", provenance=now)
    said = [line for line in capsys.readouterr().out.splitlines() if "other options" in line]
    assert said == ["goes on with other options than it began with: snr [0.1, 2] (was [0.03, 10])"]
    training(tmp_path, max_epochs=3, resume="auto", provenance=now)
    assert "other options" not in capsys.readouterr().out


def test_other_surroundings_are_said(tmp_path, capsys):
    """Versions, commit, ranks and templates; of what an earlier version did not note nothing is said."""
    before = {"versions": {"torch": "2.8.0", "numpy": "2.0"}, "commit": "abc", "ranks": 1, "templates": "12"}
    now = {"versions": {"torch": "2.9.0", "numpy": "2.0", "scipy": "1"}, "commit": None, "ranks": 2, "templates": "34"}
    training(tmp_path, max_epochs=1, provenance=before)
    training(tmp_path, max_epochs=2, resume="auto", provenance=now)
    said = [line for line in capsys.readouterr().out.splitlines() if "goes on" in line]
    other = "commit None (was 'abc'), ranks 2 (was 1), templates '34' (was '12'), torch '2.9.0' (was '2.8.0')"
    assert said == [f"goes on with other surroundings than it began with: {other}"]
    training(tmp_path, max_epochs=3, resume="auto", provenance=now)
    training(tmp_path, max_epochs=4, resume="auto", provenance={"versions": 3, "config": []})
    assert "goes on" not in capsys.readouterr().out


def test_an_average_can_begin_on_resume(tmp_path):
    training(tmp_path, max_epochs=1, ema=None)
    resumed = training(tmp_path, max_epochs=2, resume="auto")
    assert not torch.equal(resumed.average[0].weight, resumed.network[0].weight)


def test_auto_begins_anew_where_there_is_nothing(tmp_path):
    (tmp_path / f".{'0' * 32}.checkpoint.pt").write_bytes(b"of a killed run")
    assert training(tmp_path, max_epochs=1, resume="auto").trainer.state.iteration == 4
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "checkpoint.pt"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 2, "items": 16}, "epochs of 4 iterations and 8 samples, not 4 and 16"),
        ({"max_epochs": 2, "facts": {"classes": ["a", "c"]}}, r"trained with classes \['a', 'b'\], not \['a', 'c'\]"),
        ({"max_epochs": 2, "seed": 1}, "was trained with seed 0: pass --seed 0, got 1"),
        ({"max_epochs": 2, "resume": "nowhere.pt"}, "no checkpoint nowhere.pt to resume from"),
    ],
)
def test_what_cannot_be_resumed_is_refused(tmp_path, options, message):
    training(tmp_path, max_epochs=1)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        training(tmp_path, **{"resume": "auto", **options})


def test_a_finished_run_ends_well_with_auto_alone(tmp_path, capsys):
    """Killed between its last checkpoint and its exit, a job that is requeued must not fail for ever."""
    training(tmp_path, max_epochs=1)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    checkpoint = tmp_path / "checkpoint.pt"
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        training(tmp_path, max_epochs=1, resume="auto")
    assert end.value.code == 0
    already = f"{checkpoint} has 1 epochs already: --max_epochs must be larger"
    assert capsys.readouterr().out == f"the run is finished, {already} to go on\n"
    with pytest.raises(ValueError, match=f"^{re.escape(already)}, got 1$"):
        training(tmp_path, max_epochs=1, resume=str(checkpoint))
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before


def test_a_folder_that_another_process_holds_is_refused(tmp_path, monkeypatch):
    """Before its checkpoint is read, which may be about to be replaced."""
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")

    def held(file, operation):
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "lockf", held)
    with pytest.raises(ValueError, match="another process is at work in"):
        training(tmp_path, max_epochs=1, resume="auto")


def test_a_broken_checkpoint_is_refused(tmp_path):
    for content in (b"", b"half a file"):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is no checkpoint of this bundle's training"):
            training(tmp_path, max_epochs=1, resume="auto")


def test_the_average_follows_its_formula():
    network = nn.Linear(1, 1, bias=False)
    average, expected = AverageWeights(network, 0.5), network.weight.item()
    engine = Engine(lambda engine, batch: nn.init.constant_(network.weight, batch))
    average.attach(engine)
    engine.run([1.0, 2.0, 3.0, 4.0] * 4)
    for n, value in enumerate([1.0, 2.0, 3.0, 4.0] * 4, start=1):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert average.network.weight.item() == pytest.approx(expected, rel=1e-5)
    assert AverageWeights(network).network is network
    with pytest.raises(ValueError, match="must lie between 0 and 1, got 1"):
        AverageWeights(network, 1)


def test_the_average_carries_the_record():
    average = AverageWeights(with_facts(nn.Linear(1, 1), FACTS), 0.9)
    assert facts_in(average.network.state_dict()) == FACTS


class Writer:
    def __init__(self):
        self.scalars, self.histograms = [], []

    def add_scalar(self, *given):
        self.scalars.append(given)

    def add_histogram(self, name, values, step):
        self.histograms.append((name, values.tolist(), step))


def test_drawn_parameters_are_shown(tmp_path):
    def step(engine, snr):
        drawn = [
            {"RandSNR": {"snr": snr, "seed": 7}, "RandCTF": None},
            {"RandSNR": None, "RandCTF": {"defocus_um": 2.0}},
        ]
        return {"label": {"class": torch.tensor([0, 1]), "parameters": drawn}}

    writer, engine = Writer(), Engine(step)
    DrawnParameters(["a", "b"], str(tmp_path), writer, most=3).attach(engine)
    engine.run([0.1, 0.2], max_epochs=2)
    with (tmp_path / "parameters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["iteration"], row["class"], row["RandSNR.snr"], row["RandCTF.defocus_um"]) for row in rows] == [
        ("3", "a", "0.1", ""),
        ("3", "b", "", "2.0"),
        ("4", "a", "0.2", ""),
    ]
    expected = [("drawn/RandSNR.snr", [0.1, 0.2]), ("drawn/RandCTF.defocus_um", [2.0])]
    assert writer.histograms == [(*shown, step) for step in (2, 4) for shown in expected]


def test_drawn_parameters_want_whole_batches(tmp_path):
    engine = Engine(lambda engine, batch: [{"label": {}}])
    DrawnParameters(["a"], str(tmp_path)).attach(engine)
    engine.logger.disabled = True
    with pytest.raises(ValueError, match="give the trainer decollate=False"):
        engine.run([0])


def test_validation_stands_on_the_trainings_axis():
    writer, engine = Writer(), Engine(lambda engine, batch: None)
    ValidationScalars(writer, epoch_length=50).attach(engine)
    engine.add_event_handler(Events.STARTED, lambda e: e.state.metrics.update(accuracy=0.5))
    engine.run([0], max_epochs=3)
    assert writer.scalars == [("validation/accuracy", 0.5, 150)]


def test_a_foreign_model_in_the_folder_is_not_taken_for_the_best(tmp_path):
    network = torch.nn.Linear(1, 1)
    (tmp_path / "a").mkdir()
    first = KeepBest(network, str(tmp_path / "a"))
    engine = Engine(lambda *_: None)
    first.attach(engine)
    engine.state.metrics = {"mean_iou": 0.7}
    first(engine)
    again = KeepBest(network, str(tmp_path / "a"))
    again.load_state_dict(first.state_dict())
    assert again.score == 0.7
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.pt").write_bytes(b"another run's")
    elsewhere = KeepBest(network, str(tmp_path / "b"))
    elsewhere.load_state_dict(first.state_dict())
    assert math.isnan(elsewhere.score)


def test_a_log_begins_with_the_first_thing_to_log(tmp_path):
    writer = LazySummaryWriter(str(tmp_path / "log"))
    assert not (tmp_path / "log").exists()
    writer.add_scalar("a", 1.0, 1)
    writer.close()
    assert len(list((tmp_path / "log").iterdir())) == 1


@pytest.mark.parametrize("resume", [True, 3])
def test_resume_is_a_file_or_a_word(tmp_path, resume):
    with pytest.raises(ValueError, match="resume must be a checkpoint, auto or null"):
        Checkpoints({}, str(tmp_path), resume=resume)
