"""The domain as a whole: the kit's checks that need no training, and what a text shows of itself."""

from __future__ import annotations

import pytest
import toys

from headwater.errors import HeadwaterError
from headwater.recipe import Recipe
from headwater.testing import domain_checks, surface_checks
from headwater.testing.subject import Subject
from headwater_marketing import ITEMS, Marketing
from headwater_marketing.asks import Ask, Copy, told
from headwater_marketing.data import DATASETS
from headwater_marketing.plan import Slot

CHECKS = (
    domain_checks.names, domain_checks.reserved_names, domain_checks.condition, domain_checks.partial_conditions,
    domain_checks.encode, domain_checks.round_trip, domain_checks.data_is_valid, domain_checks.features, domain_checks.metrics,
    surface_checks.render, surface_checks.files, surface_checks.files_are_deterministic, surface_checks.import_is_light,
)  # fmt: skip
ASK = Ask((Slot("product", "name"), Slot("price", "price")), channel="sms", part="text", voice="warm", level="easy")


@pytest.fixture(scope="module")
def subject():
    return Subject(Marketing())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_kit(check, subject):
    check(subject)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{product} for {price}!", None),
        (" \n", "says nothing"),
        ("{product} for {price} {", "a brace"),
        ("{product} for {Price}", "a brace"),
        ("{product} only", "states price 0 times; asked 1 to 1"),
        ("{product} {product} {price}", "states product 2 times"),
    ],
)
def test_what_is_wrong_with_a_text(text, words):
    found = Marketing().problem(Copy(text, ASK))
    assert found is None if words is None else words in found


def test_a_text_shows_its_facts_and_keeps_its_markup():
    page = Marketing().render(Copy("<b>{product}</b> & {price}", ASK))
    assert "&lt;b&gt;" in page and "<b>" not in page and ">product</span>" in page and "sms · text · warm · easy" in page
    assert Marketing().record(Copy("{price}: {product}, {price}", ASK))["facts"] == "price, product"


def test_files_come_back_and_strange_ones_are_told(tmp_path):
    items = [Copy("Hi {first_name}", ASK), Copy("Tea, é…", Ask(act="inform", closed=(("food", "Italian"),)))]
    assert [(i.text, i.ask) for i in Marketing().read(Marketing().write(items, tmp_path)[0])] == [(i.text, i.ask) for i in items]
    (tmp_path / "lines.txt").write_text("Meet {product}.\n\nTea!\n", "utf-8")
    lines = Marketing().read(tmp_path / "lines.txt")
    assert [i.text for i in lines] == ["Meet {product}.", "Tea!"]
    assert [[slot.name for slot in i.ask.slots] for i in lines] == [["product"], []]  # a line asks for what it states
    for content in ('{"text": 1}\n', "[]\n", '{"text": "a", "ask": {"slots": [{"x": 1}], "closed": []}}\n', "not json\n"):
        (tmp_path / ITEMS).write_text(content, "utf-8")
        with pytest.raises(HeadwaterError, match="line 1 is no text of copy"):
            Marketing().read(tmp_path / ITEMS)


def test_a_text_is_varied_under_its_own_plan():
    tiny = {"name": "transformer", "options": {"width": 16, "layers": 1, "heads": 2}}
    networks = {"encoder": {"name": "recurrent", "options": {"width": 16}}}
    recipe = Recipe(
        codec="copy", family="vae", network=tiny, networks=networks, data="grammar", given=("plan",), tile=16, condition_width=8
    )  # fmt: skip
    model = toys.generator(Marketing(), recipe)
    items = list(DATASETS["grammar"].sample())[:3]
    made = model.vary(items, strength=0.5, n=2)
    assert [wish.plan.tolist() for wish in made.wishes] == [told(item.ask).tolist() for item in items for _ in range(2)]
    plan = told(items[0].ask)
    assert all((wish.plan == plan).all() for wish in model.vary(items, strength=0.5, plan=plan).wishes)  # unless told another
