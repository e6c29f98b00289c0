"""The conformance kit passes a good domain and catches planted faults, each by the check that is there for it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the domain under test is a package, as a plug-in's is

import beads
from beads import Beads, Chain, Grow, Line, Strings, Wish

from headwater import Dataset, Knob, Metric, Recipe, testing
from headwater.testing import batch_checks, domain_checks, recipe_checks, surface_checks
from headwater.testing.conformance import Check
from headwater.testing.subject import Subject

test_a_good_domain_passes = testing.conformance(Beads())


# --- faults -------------------------------------------------------------------------------------------------------------

Fault = Callable[[], Any]
FAULTS: list[tuple[str, str, Fault]] = []  # the only check that may fail, what is wrong, the domain


def caught_by(*labels: str) -> Callable[[Fault], Fault]:
    def plant(fault: Fault) -> Fault:
        FAULTS.append((" ".join(labels), fault.__name__, fault))
        return fault

    return plant


def mutant(**parts: Any) -> Any:
    """Beads with some of its parts replaced."""
    return type("Mutant", (Beads,), {"__doc__": Beads.__doc__, **parts})()


def changed(codec: Any, **parts: Any) -> Any:
    return type("Changed", (codec,), parts)()


def wish(name: str, hint: Any, default: Any = None) -> type:
    """The condition of Beads with one field replaced or added."""
    fields = {f.name: (f.name, f.type, dataclasses.field(default=None)) for f in dataclasses.fields(Wish)}
    fields[name] = (name, hint, dataclasses.field(default=default))
    made = dataclasses.make_dataclass("Wish", fields.values(), frozen=True)
    made.__module__ = beads.__name__  # where the annotations are understood
    return made


def describing(kind: type, **values: Any) -> dict[str, Any]:
    """Parts of a mutant with another condition."""

    def describe(self: Any, item: str) -> Any:
        found = {k: v for k, v in vars(Beads.describe(self, item)).items() if v is not None}
        return kind(**{**found, **values})

    return {"Wish": kind, "describe": describe}


@caught_by("names")
def a_name_that_cannot_be_typed() -> Any:
    return mutant(name="Glass Beads!")


@caught_by("names")
def a_pipeline_without_a_summary() -> Any:
    return mutant(pipelines=(type("Silent", (Grow,), {"summary": ""}),))


@caught_by("reserved_names")
def a_domain_called_train() -> Any:
    return mutant(name="train")


@caught_by("reserved_names")
def a_knob_called_seed() -> Any:
    return mutant(**describing(wish("seed", Annotated[int | None, Knob("seeds in the string", 0, 3)]), seed=1))


@caught_by("condition")
def a_field_with_another_default_than_none() -> Any:
    return mutant(**describing(wish("reds", Annotated[int | None, Knob("red beads", 0, 8)], default=0)))


@caught_by("condition partial_conditions metrics")
def a_field_without_a_default() -> Any:
    kind = dataclasses.make_dataclass("Wish", [("beads", Annotated[int | None, Knob("beads", 1, 8)])], frozen=True)
    return mutant(Wish=kind, describe=lambda self, item: kind(len(item)))


@caught_by("condition")
def a_range_that_the_data_leave() -> Any:
    return mutant(**describing(wish("reds", Annotated[int | None, Knob("red beads", 0, 1)])))


@caught_by("condition")
def a_knob_that_is_never_labelled() -> Any:
    return mutant(**describing(wish("shine", Annotated[float | None, Knob("how it shines", 0, 1)])))


@caught_by("condition")
def a_description_that_changes() -> Any:
    return mutant(describe=lambda self, item: Wish(reds=random.randrange(8), opening="a", symmetric=True))


@caught_by("partial_conditions")
def a_judge_that_needs_every_wish() -> Any:
    return mutant(problem=lambda self, item, asked=None: beads.problem(item) or (asked and asked.reds + 0 < 0 and "few") or None)


@caught_by("encode")
def tokens_of_another_type() -> Any:
    encode = lambda self, item: Chain.encode(self, item).astype(np.int32)  # noqa: E731
    return mutant(codecs={"chain": changed(Chain, encode=encode), "line": Line()})


@caught_by("encode")
def an_encoding_that_trembles() -> Any:
    encode = lambda self, item: (0.99 * Line.encode(self, item) + 0.001 * np.random.rand(1, 8)).astype(np.float32)  # noqa: E731
    return mutant(codecs={"chain": Chain(), "line": changed(Line, encode=encode)})


@caught_by("encode")
def a_grid_beyond_its_range() -> Any:
    encode = lambda self, item: 1.1 * Line.encode(self, item)  # noqa: E731
    return mutant(codecs={"chain": Chain(), "line": changed(Line, encode=encode)})


@caught_by("encode")
def a_view_with_its_own_dice() -> Any:
    view = lambda self, item, noise: "".join(random.sample("abc", 3))  # noqa: E731
    return mutant(codecs={"chain": changed(Chain, view=view), "line": Line()})


@caught_by("round_trip")
def a_codec_that_loses_a_bead() -> Any:
    decode = lambda self, array: Line.decode(self, array)[:5]  # noqa: E731
    return mutant(codecs={"chain": Chain(), "line": changed(Line, decode=decode)})


@caught_by("decode_is_total")
def a_decoder_that_cannot_read_nan() -> Any:
    def decode(self: Any, array: Any) -> str:
        return Line.decode(self, np.array([[int(v * 1000) / 1000 for v in array[0]]]))

    return mutant(codecs={"chain": Chain(), "line": changed(Line, decode=decode)})


@caught_by("decode_is_total")
def a_judge_that_stumbles_over_nothing() -> Any:
    return mutant(problem=lambda self, item, asked=None: beads.problem(item) if item[0] else None)


@caught_by("data_is_valid")
def data_that_the_domain_calls_invalid() -> Any:
    return mutant(problem=lambda self, item, asked=None: "too many reds" if item.count("a") > 2 else beads.problem(item))


@caught_by("data_is_valid")
def data_without_a_card(tmp: Path = Path("/nowhere")) -> Any:
    strings = Beads.datasets["strings"]
    return mutant(datasets={"strings": Dataset(tmp, strings.rows, strings.sample)})


@caught_by("splits_are_apart")
def validation_on_training_data() -> Any:
    strings = Beads.datasets["strings"]
    return mutant(datasets={"strings": Dataset(beads.HERE, lambda split: Strings("train", 30), strings.sample)})


@caught_by("features")
def features_that_look_at_the_neighbours() -> Any:
    def features(self: Any, items: Sequence[str]) -> Any:
        rows = Beads.features(self, items)
        return rows - rows.mean(axis=0)

    return mutant(features=features)


@caught_by("metrics")
def a_published_figure_without_a_source() -> Any:
    return mutant(metrics=(Metric("distinct", beads.distinct, better="higher", published={"others": 0.9}),))


@caught_by("metrics")
def a_metric_that_needs_a_valid_item() -> Any:
    def share(evaluation: Any) -> float:
        valid = [item for item in evaluation.made if beads.problem(item) is None and len(item) > 1]
        junk = len(evaluation.made) - len(valid)
        return len(set(valid)) / (0 if junk else 1)

    return mutant(metrics=(Metric("share", share, better="higher"),))


@caught_by("render")
def a_picture_from_elsewhere() -> Any:
    return mutant(render=lambda self, item: '<img src="https://example.org/bead.png">')


@caught_by("render")
def text_taken_for_markup() -> Any:
    return mutant(render=lambda self, item: f"<code>{item}</code>")


@caught_by("render")
def a_page_with_random_ids() -> Any:
    return mutant(render=lambda self, item: f'<code id="{uuid.uuid4()}"></code>')


@caught_by("files")
def a_file_left_behind() -> Any:
    def write(self: Any, items: Any, folder: Path) -> list[Path]:
        (folder / ".strings.txt.part").write_text("half")
        return Beads.write(self, items, folder)

    return mutant(write=write)


@caught_by("files")
def items_that_do_not_come_back() -> Any:
    return mutant(read=lambda self, path: Beads.read(self, path)[:2])


@caught_by("files")
def a_traceback_for_a_missing_file() -> Any:
    return mutant(read=lambda self, path: path.read_text().splitlines())


def writing(line: Callable[[], str]) -> Any:
    """A mutant whose files hold a line more."""

    def write(self: Any, items: Any, folder: Path) -> list[Path]:
        paths = Beads.write(self, items, folder)
        paths[0].write_text(f"# {line()}\n{paths[0].read_text()}")
        return paths

    return mutant(write=write)


@caught_by("files_are_deterministic")
def files_with_a_clock() -> Any:
    return writing(lambda: time.strftime("%H:%M:%S"))


@caught_by("files_are_deterministic")
def files_with_a_date() -> Any:
    return writing(lambda: time.strftime("%Y-%m-%d"))


@caught_by("files_are_deterministic")
def files_with_a_random_id() -> Any:
    return writing(lambda: str(uuid.uuid4()))


@caught_by("pipelines_are_row_pure")
def a_pipeline_that_counts() -> Any:
    class Counting(Grow):
        def run(self, model: Any, rows: Any, noise: Any, options: Any) -> Iterator[Any]:
            for place, (row, text) in enumerate(rows):  # the place in the batch, not the row's own number
                yield beads.Grown(row, model.sample(1, start=text, seed=noise.fold(place).number())[0])

    return mutant(pipelines=(Counting,))


@caught_by("runs_as_batch")
def a_record_that_no_table_holds() -> Any:
    class Odd(beads.Grown):
        def record(self) -> dict[str, Any]:
            return {"length": complex(len(self.text))}

    class Growing(Grow):
        def run(self, model: Any, rows: Any, noise: Any, options: Any) -> Iterator[Any]:
            for grown in super().run(model, rows, noise, options):
                yield Odd(grown.row, grown.text)

    return mutant(pipelines=(Growing,))


def network(forward: Callable[..., Any], setup: Callable[[Any], None] = lambda net: None) -> Any:
    """A mutant whose only recipe uses a faulty network; ``forward`` gets the good one's."""

    def build(space: Any, pooled: int = 0, cells: int = 0, sequence: int = 0) -> Any:
        from beads.network import LineNet

        def wrong(self: Any, x: Any, noise_level: Any, context: Any) -> Any:
            return forward(self, super(Wrong, self).forward, x, noise_level, context)

        Wrong = type("Wrong", (LineNet,), {"forward": wrong})
        net = Wrong(space.size[0], 16, pooled)
        setup(net)
        return net

    return mutant(networks={"line": build}, recipes={"line": Beads.recipes["line"]}, pipelines=())


@caught_by("trains_two_steps-line")
def a_network_without_a_gradient() -> Any:
    return network(lambda self, good, x, level, context: good(x, level, context).detach() + 0 * x + _weight(context))


def _weight(context: Any) -> Any:
    return context.pooled.mean()  # something trains, but not the network


@caught_by("trains_two_steps-line")
def a_recipe_with_an_unknown_option() -> Any:
    line = Beads.recipes["line"]
    wrong = line.model_copy(update={"options": {"solver": "runge"}})
    return mutant(recipes={"line": wrong}, pipelines=())


@caught_by("same_seed_same_items-line")
def a_network_with_its_own_dice() -> Any:
    import torch

    return network(lambda self, good, x, level, context: good(x, level, context) + 0.1 * torch.randn(x.shape))


@caught_by("batch_size_does_not_matter-line")
def a_network_that_mixes_rows() -> Any:
    return network(lambda self, good, x, level, context: good(x - x.mean(dim=0), level, context))


@caught_by("batch_size_does_not_matter-line")
def a_network_with_batch_statistics() -> Any:
    from torch import nn

    def setup(net: Any) -> None:
        net.norm = nn.BatchNorm1d(1, track_running_stats=False)

    return network(lambda self, good, x, level, context: self.norm(good(x, level, context)), setup)


@caught_by("save_load-line")
def a_network_with_state_that_is_not_saved() -> Any:
    import torch

    def setup(net: Any) -> None:
        net.shift = torch.rand(8)  # neither parameter nor buffer

    return network(lambda self, good, x, level, context: good(x + self.shift, level, context), setup)


@caught_by("knobs_obeyed-line")
def a_network_that_does_not_listen() -> Any:
    from headwater.context import Context

    return network(lambda self, good, x, level, context: good(x, level, Context()))


@caught_by("knobs_obeyed-chain")
def an_array_drawn_with_other_dice() -> Any:
    given = lambda self, name, item, noise: Wish(pattern=np.random.rand(8, 1).astype(np.float32))  # noqa: E731
    return mutant(given=given, recipes={"chain": Beads.recipes["chain"]}, pipelines=())


def constrained(**parts: Any) -> Any:
    constraint = changed(beads.Apart, **parts)
    codecs = {"chain": changed(Chain, constraint=lambda self: constraint)}
    return mutant(codecs=codecs, recipes={"chain": Beads.recipes["chain"]}, pipelines=())


@caught_by("constraint_respected-chain")
def a_constraint_that_lets_an_item_end_too_soon() -> Any:
    return constrained(accepts=lambda self, state: len(state) > 7)


@caught_by("constraint_respected-chain")
def a_constraint_that_forbids_real_items() -> Any:
    return constrained(
        allowed=lambda self, state, remaining: beads.Apart.allowed(self, state, remaining) & [True, bool(state), True, True]
    )


@caught_by("verbs_answer-line")
def a_network_with_a_pole() -> Any:
    """At a noise level of a tenth, where no step of the sampler falls."""
    level_there = math.log(0.1) / 4

    def forward(self: Any, good: Any, x: Any, level: Any, context: Any) -> Any:
        out = good(x, level, context)
        return out.masked_fill(((level - level_there).abs() < 1e-4)[:, None, None], math.inf)

    return network(forward)


# --- the faults are caught ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> Iterator[Subject]:
    with Subject(Beads()) as subject:
        yield subject


def failures(domain: Any, good: Subject) -> dict[str, str]:
    """The failing checks and why. A fault outside recipes and codecs shares the good domain's models, and those are not checked
    again. The class of a mutant has no module of its own, so ``import_is_light`` has a test of its own."""
    failed = {}
    with Subject(domain) as subject:
        shared = domain.recipes is Beads.recipes and type(domain).given is Beads.given
        if shared:
            subject._benches = {name: good.bench(name) for name in good.recipe_names}
        for check in testing.checks(domain):
            if check.name == "import_is_light" or (shared and check.recipe):
                continue
            try:
                check(subject)
            except AssertionError as error:
                failed[check.label] = str(error)
    return failed


@pytest.mark.parametrize(("expected", "fault"), [pytest.param(e, f, id=n) for e, n, f in FAULTS])
def test_a_fault_is_caught_by_its_check_alone(expected: str, fault: Fault, good: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault is not files_with_a_clock:
        monkeypatch.setattr(surface_checks, "PAUSE", 0.0)
    failed = failures(fault(), good)
    if "runs_as_batch" not in expected:  # a job is the whole domain at work: most faults show in it, too
        failed.pop("runs_as_batch", None)
    assert set(failed) == set(expected.split()), failed
    assert all(len(why.split()) > 5 for why in failed.values())


def test_every_check_has_a_fault() -> None:
    every = {c.__name__ for c in (*domain_checks.CHECKS, *surface_checks.CHECKS, *batch_checks.CHECKS, *recipe_checks.CHECKS)}
    planted = {label.partition("-")[0] for expected, _, _ in FAULTS for label in expected.split()}
    assert planted | {"import_is_light"} == every


@pytest.mark.parametrize("line, light", [("import tensorflow", False), ("import json", True)])
def test_a_heavy_import_is_caught(line: str, light: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorflow.py").write_text("")  # stands for the real one, which takes seconds
    (tmp_path / "pearls.py").write_text(f"{line}\nimport beads\n\nclass Pearls(beads.Beads):\n    name = 'pearls'\n")
    monkeypatch.syspath_prepend(tmp_path)
    import pearls

    try:
        with Subject(pearls.Pearls()) as subject:
            if light:
                surface_checks.import_is_light(subject)
            else:
                with pytest.raises(AssertionError, match="imports tensorflow; import it inside the functions"):
                    surface_checks.import_is_light(subject)
    finally:
        del sys.modules["pearls"]
        sys.modules.pop("tensorflow", None)


def unconstrained(good: Any, self: Any, *asked: Any) -> Any:
    return good(self, *asked[:-1], dataclasses.replace(asked[-1], constraints=None))


def forgetful(good: Any, self: Any, kept: Any, *rest: Any) -> Any:
    return good(self, dataclasses.replace(kept, mask=kept.mask & False), *rest)


def no_number(good: Any, *asked: Any) -> Any:
    found = good(*asked)
    return dataclasses.replace(found, value=math.nan * found.value)


#: Faults of a family: the verb, what becomes of it, what the kit says.
CORE_FAULTS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "neighbours outside the constraint": ("vary", unconstrained, "what vary gives breaks the codec's constraint"),
    "fillings outside the constraint": ("filled", unconstrained, "what infill gives breaks the codec's constraint"),
    "kept cells that change": ("filled", forgetful, "infill changes cells"),
    "an item that varies by itself": ("vary", lambda good, self, x, s, *rest: good(self, x, 1.0, *rest), "vary at strength 0"),
    "no likelihood": ("score", no_number, "not finite"),
}


@pytest.mark.parametrize("fault", [None, *CORE_FAULTS])
def test_every_verb_is_asked(fault: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.families.masked_diffusion import MaskedDiffusion

    chain = Beads.recipes["chain"].model_dump(exclude={"given"})
    transformer = {"name": "transformer", "options": {"width": 16, "layers": 1, "heads": 2}}
    hidden = Recipe.model_validate({**chain, "family": "masked_diffusion", "network": transformer})
    check = Check("verbs_answer", recipe_checks.verbs_answer, "hidden")
    if fault is not None:
        verb, wrong, _ = CORE_FAULTS[fault]
        good = getattr(MaskedDiffusion, verb)
        monkeypatch.setattr(MaskedDiffusion, verb, lambda self, *asked: wrong(good, self, *asked))
    with Subject(mutant(recipes={"hidden": hidden}, pipelines=())) as subject:
        if fault is None:
            assert check(subject) is None
        else:
            with pytest.raises(AssertionError, match=CORE_FAULTS[fault][2]):
                check(subject)


# --- the kit itself -----------------------------------------------------------------------------------------------------


def test_an_exception_becomes_a_failure_that_names_its_origin() -> None:
    def breaks(subject: Subject) -> None:
        raise KeyError("bead")

    with pytest.raises(AssertionError, match=r"breaks: KeyError: 'bead' \(raised in .*test_conformance.py, line \d+\)"):
        Check("breaks", breaks)(Subject(Beads()))


def test_data_that_are_not_here_are_reported_and_do_not_fail() -> None:
    from headwater import HeadwaterError

    def absent(split: str) -> Any:
        raise HeadwaterError("get the data first")

    strings = Beads.datasets["strings"]
    domain = mutant(datasets={"strings": Dataset(beads.HERE, absent, strings.sample)})
    outcome = {o.check: o for o in itertools.islice(testing.run(domain), 10)}["splits_are_apart"]
    assert outcome.status == "unchecked"
    assert outcome.note == "not checkable here, data absent: strings/train, strings/valid, strings/test"


def test_a_domain_without_recipes_is_held_to_the_cores_own() -> None:
    labels = {c.label for c in testing.checks(mutant(recipes={}))}
    assert {"same_seed_same_items-autoregressive", "same_seed_same_items-diffusion"} <= labels


def test_a_large_network_is_built_narrower() -> None:
    from headwater.testing.subject import LARGE, _parameters, scaled

    wide = {"name": "recurrent", "options": {"width": 2048, "layers": 2}}
    recipe = Recipe.model_validate({**Beads.recipes["chain"].model_dump(), "network": wide})
    assert 0 < _parameters(Beads(), scaled(Beads(), recipe)) < LARGE < _parameters(Beads(), recipe)


def test_a_large_network_over_the_latent_of_a_folder_is_built_narrower(tmp_path: Path) -> None:
    import toys

    from headwater import checkpoint
    from headwater.testing.subject import LARGE, _parameters

    about = {"domain": "points", "name": "vae", "data": "points", "data_hash": "", "command": ""}
    inner, wide = toys.autoencoder("points"), {"name": "mlp", "options": {"width": 2048, "layers": 2}}
    checkpoint.save(toys.model(toys.Points(), inner), tmp_path / "vae", recipe=inner, **about)
    recipe = toys.recipe("points", "mlp", autoencoder=str(tmp_path / "vae"), network=wide)
    domain = type("Wide", (toys.Points,), {"recipes": {"wide": recipe}})()
    with Subject(domain) as subject:
        small = subject.recipe("wide")
        assert small.network.options["width"] < 2048
        before, after = (_parameters(domain, r, subject.autoencoder(r)) for r in (recipe, small))
        assert 0 < after < LARGE < before


def test_the_kit_leaves_no_cache_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path))
    with Subject(Beads()) as subject:
        subject.bench("chain")
        folder = subject._folder
    assert list(tmp_path.iterdir()) == []
    assert folder is not None and not Path(folder.name).exists()


def test_the_command_says_how_it_went(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from headwater import registry
    from headwater.cli import run

    monkeypatch.setattr(surface_checks, "PAUSE", 0.0)
    monkeypatch.setattr(surface_checks, "CHECKS", [c for c in surface_checks.CHECKS if c is not surface_checks.import_is_light])
    cheap = {"recipes": {"line": Beads.recipes["line"]}, "pipelines": ()}
    for domain, failing in (
        (mutant(**cheap), []),
        (mutant(**cheap, metrics=a_published_figure_without_a_source().metrics), ["metrics"]),
    ):
        with registry.registered(domain):
            assert run(["check", "beads", "--json"]) == (4 if failing else 0)
        told = json.loads(capsys.readouterr().out)
        assert told["domain"] == "beads" and told["failed"] == len(failing)
        assert [c["check"] for c in told["checks"] if c["status"] == "fail"] == failing
    with registry.registered(domain):
        assert run(["check", "beads"]) == 4
    table = " ".join(capsys.readouterr().out.split())
    assert "FAIL" in table and "give the source" in table and "1 fail" in table
    assert run(["check", "nonsense"]) == 2
    assert "unknown domain 'nonsense'" in capsys.readouterr().err
