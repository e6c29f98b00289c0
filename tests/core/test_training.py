"""Training: its order is a function of the step, and a run that was killed ends where an unbroken one would."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from safetensors import safe_open

from headwater.data import cache_folder
from headwater.domain import Codec
from headwater.errors import HeadwaterError
from headwater.knobs import fields
from headwater.noise import Noise
from headwater.train import Source, dataset_source, files_source, identity, train
from headwater.train.module import Journal, Lesson, averaged, rate_at
from headwater.train.order import WINDOW, Order
from headwater.train.preparation import TrainingData, content_hash, encode_rows
from headwater.train.snapshot import SafetensorsIO, pack, unpack

TOYS = Path(__file__).parents[1] / "toys.py"
STEPS, KILLED = 14, 8


def small(name: str, precision: str = "fp32", **training: Any) -> Any:
    """A recipe of a few steps; dropout, given arrays and views of the data are in it."""
    settings = {"steps": STEPS, "batch": 8, "warmup": 3, "precision": precision, "validate_rows": 20, **training}
    if name == "words":
        return toys.recipe(
            "words", "transformer", given=["where"], training=settings,
            network={"name": "transformer", "options": {"width": 16, "layers": 1, "heads": 2, "dropout": 0.2}},
        )  # fmt: skip
    return toys.recipe("spots", "unet", given=["rough"], training=settings)


RUNS = [("words", "fp32"), ("spots", "fp32"), ("words", "bf16"), ("spots", "bf16")]

#: Trains each of RUNS in a child that SIGKILLs itself at step KILLED, in the middle of writing down that step.
KILL = """
import importlib.util, os, signal, sys
from pathlib import Path
toys_py, tests_py, folder = sys.argv[1:]
for name, path in (("toys", toys_py), ("kill", tests_py)):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
import pytorch_lightning, torch
import kill, toys
torch.set_num_threads(1)

def tell(step, loss, valid):
    if step == kill.KILLED:
        os.kill(os.getpid(), signal.SIGKILL)

for name, precision in kill.RUNS:
    child = os.fork()
    if child == 0:
        kill.train(
            toys.DOMAINS[name](), kill.small(name, precision), Path(folder) / f"{name}-{precision}",
            checkpoint_seconds=0.0, log_every=2, tell=tell,
        )
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, precision, status)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "kill.py").write_text(KILL)
    command = [sys.executable, str(folder / "kill.py"), str(TOYS), __file__, str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_a_killed_training_resumes_bit_for_bit(name: str, precision: str, killed: Path, tmp_path: Path) -> None:
    domain, recipe, folder = toys.DOMAINS[name](), small(name, precision), killed / f"{name}-{precision}"
    saved = SafetensorsIO().load_checkpoint(folder / "checkpoint.safetensors")
    assert 0 < saved["taken"] < KILLED  # it had come some way, and not to the end
    torch.manual_seed(12345)  # whatever state torch's own generator is in
    resumed = train(domain, recipe, folder, log_every=2)
    torch.manual_seed(54321)
    unbroken = train(domain, recipe, tmp_path, log_every=2)
    one, two = resumed.tensors(), unbroken.tensors()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    a, b = (SafetensorsIO().load_checkpoint(f / "checkpoint.safetensors") for f in (folder, tmp_path))
    assert a["taken"] == b["taken"] == STEPS
    for part in ("state_dict", "average"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in b[part])
    moments = [s["optimizer_states"][0]["state"] for s in (a, b)]
    assert all(torch.equal(moments[0][i]["exp_avg_sq"], moments[1][i]["exp_avg_sq"]) for i in moments[1])
    lines = [list(csv.DictReader((f / "log.csv").open())) for f in (folder, tmp_path)]
    assert [row["step"] for row in lines[0]] == [row["step"] for row in lines[1]] == [str(s) for s in range(2, STEPS + 1, 2)]
    assert lines[0][-1]["valid_loss"] == lines[1][-1]["valid_loss"] != "nan"
    assert tuple(lines[0][0]) == Journal.COLUMNS == ("step", "loss", "valid_loss", "rate", "seconds")


def test_bf16_is_fp32_where_the_device_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.train.computes_bf16", lambda device: False)
    one, two = (train(toys.DOMAINS["words"](), small("words", p), tmp_path / p).tensors() for p in ("bf16", "fp32"))
    assert all(torch.equal(one[k], two[k]) for k in two)


def test_a_checkpoint_is_numbers_and_text(killed: Path) -> None:
    path = killed / "words-fp32" / "checkpoint.safetensors"
    with safe_open(str(path), framework="np") as file:
        header = file.metadata()
        assert set(header) == {"tree"} and json.loads(header["tree"])
    assert b"ctorch" not in path.read_bytes() and not list(path.parent.glob("*.part"))


def test_what_a_checkpoint_cannot_hold_is_refused_by_name() -> None:
    value = {"a": [1, 2.5, None, (True, "x")], 3: {"t": torch.ones(2)}, "nan": float("inf")}
    tensors: dict[str, torch.Tensor] = {}
    again = unpack(json.loads(json.dumps(pack(value, tensors))), tensors)
    assert torch.equal(again[3].pop("t"), value[3].pop("t")) and again == value  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="a checkpoint cannot hold set at /a/b"):
        pack({"a": {"b": {1}}}, {})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(toys.Words(), small("words"), folder)
    return folder


def test_a_finished_training_is_not_trained_again(words: Any, finished: Path) -> None:
    before = (finished / "log.csv").read_bytes()
    told: list[int] = []
    again = train(words, small("words"), finished, tell=lambda step, loss, valid: told.append(step))
    average = SafetensorsIO().load_checkpoint(finished / "checkpoint.safetensors")["average"]
    assert all(torch.equal(v, average[k]) for k, v in again.tensors().items())
    assert told == [] and (finished / "log.csv").read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": small("words", rate=2e-3)},
        {"recipe": small("words").model_copy(update={"condition_width": 8})},
        {"seed": 1},
        {"source": Source(["abc", "ab"], None, "own files")},
    ],
    ids=["rate", "width", "seed", "data"],
)
def test_a_folder_of_another_training_is_refused(words: Any, finished: Path, other: dict[str, Any]) -> None:
    before = {p.name: p.read_bytes() for p in finished.iterdir()}
    with pytest.raises(HeadwaterError, match="holds the checkpoint of another recipe, seed or data; train") as caught:
        train(**{"domain": words, "recipe": small("words"), "folder": finished, **other})
    assert "\n" not in str(caught.value)
    assert {p.name: p.read_bytes() for p in finished.iterdir()} == before


def test_the_end_may_be_chosen_late() -> None:
    assert identity(small("words"), 0, "d") == identity(small("words", steps=99, decay=0.1, validate_rows=0), 0, "d")
    assert identity(small("words"), 0, "d") != identity(small("words", "bf16"), 0, "d")
    masked = small("words").model_copy(update={"family": "masked_diffusion"})
    drawn = masked.model_copy(update={"options": {"order": "confidence", "jitter": 0.0}})
    learnt = masked.model_copy(update={"options": {"some_streams": 0.5}})
    assert identity(masked, 0, "d") == identity(drawn, 0, "d") != identity(learnt, 0, "d")


def test_a_damaged_checkpoint_is_named(words: Any, finished: Path, tmp_path: Path) -> None:
    whole = (finished / "checkpoint.safetensors").read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2]):
        (tmp_path / "checkpoint.safetensors").write_bytes(content)
        with pytest.raises(HeadwaterError, match=r"checkpoint.safetensors: not a readable checkpoint; remove it to train from"):
            train(words, small("words"), tmp_path)


def test_start_weights_are_where_training_begins(words: Any, tmp_path: Path) -> None:
    recipe = small("words", rate=1e-12, steps=1)
    start = toys.model(words, recipe, seed=8)
    adapted = train(words, recipe, tmp_path / "a", start=start)
    assert all(torch.allclose(v, adapted.tensors()[k], atol=1e-6) for k, v in start.tensors().items())
    other = toys.model(words, recipe.model_copy(update={"condition_width": 8}))
    with pytest.raises(HeadwaterError, match=r"^--from: that model does not fit this recipe: tensor 'conditioner"):
        train(words, recipe, tmp_path / "b", start=other)


# --- the step -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sized", [False, True])
def test_batches_are_a_function_of_the_step(sized: bool) -> None:
    length, batch = 230, 8
    sizes = np.arange(length) % 17 if sized else None
    order = Order(length, batch, Noise(4), sizes)
    steps = [order.rows(step) for step in range(3 * WINDOW)]
    assert [Order(length, batch, Noise(4), sizes).rows(s) for s in (149, 3, 77)] == [steps[149], steps[3], steps[77]]
    assert all(len(rows) == batch for rows in steps)
    flat = [r for rows in steps for r in rows]
    if sized:
        window = flat[: WINDOW * batch]
        assert np.bincount(window, minlength=length).max() - np.bincount(window, minlength=length).min() <= 1
        spread = np.mean([np.ptp(sizes[rows]) for rows in steps[:WINDOW]])  # type: ignore[index]
        assert spread < 2  # short with short
        assert [sizes[rows[0]] for rows in steps[:WINDOW]] != sorted(sizes[rows[0]] for rows in steps[:WINDOW])  # type: ignore[index]
    else:
        first, second = flat[:length], flat[length : 2 * length]
        assert sorted(first) == sorted(second) == list(range(length)) and first != second
    assert Order(length, batch, Noise(5), sizes).rows(0) != steps[0]
    few = Order(3, 8, Noise(0)).rows(0)  # fewer rows than a batch
    assert sorted(few[:3]) == sorted(few[3:6]) == [0, 1, 2] and len(few) == 8


def test_the_rate_rises_stays_and_falls() -> None:
    training = small("words", steps=100, warmup=10, decay=0.4).training
    rates = [rate_at(step, training) for step in range(101)]
    assert rates[0] == 0.1 and rates[9:61] == [1.0] * 52 and rates[80] == 0.5 and rates[100] == 0.0
    assert all(0 <= r <= 1 for r in rates)


def test_the_finish_is_on_labelled_rows_alone(words: Any) -> None:
    recipe = small("words", steps=3, finish=5)
    scalars = [f for f in fields(words.Wish) if f.kind != "given"]

    def lesson(labels: int) -> Lesson:
        data = TrainingData(words, words.codecs["letters"], toys.words("train"), scalars, labels)
        return Lesson(toys.model(words, recipe), data, None, recipe.training, 0)

    made = lesson(40)
    labelled = set(made.labelled.tolist())
    assert len(labelled) == 40
    assert all(set(made.rows(step)) <= labelled for step in range(3, 8))
    assert not set(made.rows(0) + made.rows(1) + made.rows(2)) <= labelled
    assert [lesson(40).rows(step) for step in (7, 2, 4)] == [made.rows(step) for step in (7, 2, 4)]
    assert [rate_at(step, recipe.training) for step in (3, 4, 8)] == pytest.approx([0.3, 0.24, 0.0])
    with pytest.raises(HeadwaterError, match="finish"):
        lesson(0)


def test_the_average_follows_the_weights(words: Any) -> None:
    recipe = small("words", ema=0.9)
    data = TrainingData(words, words.codecs["letters"], toys.words("train")[:40], (), 0)
    lesson = Lesson(toys.model(words, recipe), data, None, recipe.training, 0)
    names = [n for n, v in lesson.model.tensors().items() if v.is_floating_point()]
    wanted = {n: lesson.average[n].clone() for n in names}
    for step in range(1, 20):
        with torch.no_grad():
            for parameter in lesson.model.parameters():
                parameter.add_(0.1 * step)
        lesson.advance()
        keep = min(0.9, (1 + step) / (10 + step))
        wanted = {n: keep * wanted[n] + (1 - keep) * lesson.model.tensors()[n] for n in names}
    assert all(torch.allclose(lesson.average[n], wanted[n], atol=1e-5) for n in names)
    own = {n: v.clone() for n, v in lesson.model.tensors().items()}
    with averaged(lesson.model, lesson.average):
        assert all(torch.equal(lesson.model.tensors()[n], lesson.average[n]) for n in names) and not lesson.model.training
    assert all(torch.equal(lesson.model.tensors()[n], own[n]) for n in names) and lesson.model.training


# --- data ---------------------------------------------------------------------------------------------------------------


def test_a_users_own_files_are_split(words: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(["abc"] * 3 + ["ABC"] * 22))
    (tmp_path / "b.txt").write_text("a b")
    source = files_source(words, [tmp_path / "a.txt"])
    assert source.valid is not None and len(source.valid) == 3 and len(source.train) == 22 and source.name == "own files"
    few = files_source(words, [tmp_path / "b.txt"])
    assert list(few.train) == ["a", "b"] and few.valid is None
    assert len(files_source(words, [tmp_path / "a.txt", tmp_path / "b.txt"]).train) == 24
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(HeadwaterError, match=r"^--data: no items found in .*empty.txt$"):
        files_source(words, [tmp_path / "empty.txt"])
    with pytest.raises(HeadwaterError, match=r"^training row 1: expected at most 6 letters"):
        train(words, small("words"), tmp_path / "run", source=Source(["abc", "no such letters"], None, "own files"))
    with pytest.raises(HeadwaterError, match=r"the recipe wants data 'none'; words has words"):
        dataset_source(words, small("words").model_copy(update={"data": "none"}))
    with pytest.raises(HeadwaterError, match="the training data are empty"):
        train(words, small("words"), tmp_path / "run", source=Source([], None, "own files"))


def test_data_are_prepared_once_and_kept_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path))
    calls: list[str] = []

    class Counting(toys.Words):
        def describe(self, item: str) -> Any:
            calls.append(item)
            return super().describe(item)

    domain, rows = Counting(), toys.words("train")[:30]
    fields = toys.model(domain, small("words")).conditioner.fields
    first = TrainingData(domain, domain.codecs["letters"], rows, fields, 20)
    assert len(calls) == 20 and int((~np.isnan(first.values).all(axis=1)).sum()) == 20
    again = TrainingData(domain, domain.codecs["letters"], rows, fields, 20)
    assert len(calls) == 20 and np.array_equal(first.values, again.values, equal_nan=True)
    TrainingData(domain, domain.codecs["letters"], [*rows[:-1], "a"], fields, 20)
    assert len(calls) == 40  # other data, other labels
    assert cache_folder() == tmp_path and not list(tmp_path.rglob("*.part"))
    assert content_hash(["ab", "c"]) != content_hash(["a", "bc"])


def test_encoded_rows_come_back_as_they_were() -> None:
    codec, rows = toys.Pairs(), ["abC", "", "ABCabc", "b"]
    encoded = encode_rows(rows, range(4), codec, lambda what, done, total: None)
    assert encoded.sizes.tolist() == [3, 0, 6, 1]
    batch = encoded.batch([3, 0, 1], toys.LENGTH)
    assert batch.shape == (3, 4, 2)  # the longest and its end
    assert np.array_equal(batch[1], codec.encode("abC")[:4]) and not batch[2].any()
    assert encoded.batch([2], toys.LENGTH).shape == (1, 6, 2)  # a full item has no end
    assert encode_rows(rows, [3, 0], codec, lambda what, done, total: None).sizes.tolist() == [1, 3]


def test_views_are_drawn_by_row_and_step(words: Any) -> None:
    class Doubled(Codec[str]):
        space = toys.Letters().space
        encode, decode = toys.Letters().encode, toys.Letters().decode

        def view(self, item: str, noise: Noise) -> str:
            return item.upper() if int(noise.below(2, 1)[0, 0]) else item.lower()

    data = TrainingData(words, Doubled(), toys.words("train")[:20], (), 0)
    keys = Noise(0).rows(range(20))
    together = data.batch(range(20), keys)[0]
    pair = data.batch([7, 3], keys[[7, 3]])[0]
    assert torch.equal(pair, together[[7, 3], : pair.shape[1]]) and not together[[7, 3], pair.shape[1] :].any()
    assert not torch.equal(data.batch(range(20), Noise(1).rows(range(20)))[0], together)
    assert data.sizes is None


def test_a_view_that_does_not_draw_is_encoded_once(words: Any) -> None:
    class Lower(Codec[str]):
        space, draws = toys.Letters().space, False
        encode, decode = toys.Letters().encode, toys.Letters().decode

        def view(self, item: str, noise: Noise) -> str:
            return item.lower()

    rows = ["abC", "CBA"] * 40
    data = TrainingData(words, Lower(), rows, (), 0)
    assert data.sizes is not None and data.sizes.tolist() == [3] * 80
    assert Lower().decode(data.batch([1], Noise(0).rows([1]))[0][0].numpy()) == "cba"
    plain = TrainingData(words, toys.Letters(), rows, (), 0)  # of the same space: not the other's cached cells
    assert not torch.equal(plain.batch([1], Noise(0).rows([1]))[0], data.batch([1], Noise(0).rows([1]))[0])
