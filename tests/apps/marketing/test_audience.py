"""Tables in, tasks out: consent, duplicates, caps, offers and facts row by row, whatever the file is like."""

from __future__ import annotations

import copy
import tracemalloc
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.errors import HeadwaterError
from headwater_marketing import brief, tables
from headwater_marketing.audience import Audience, Passed, Task, consents, variant
from headwater_marketing.campaign import Mailing

RAW = {
    "name": "winter",
    "channels": ["sms", "push"],
    "variants": 3,
    "legal": {"sms": "Reply STOP to opt out"},
    "columns": {"key": "id", "consent": "ok", "product": "likes", "allow": ["tenure"], "facts": {"first_name": "name"}},
    "products": {"key": "sku", "facts": {"product": "title", "price": "price"}},
    "offers": [{"name": "loyal", "when": "tenure >= 12", "facts": {"percent": 20}, "price_is": "before"}, {"name": "usual"}],
    "segments": [{"name": "long", "when": "tenure > 30", "voice": "refined"}],
}
PRODUCTS = {"k": {"sku": "k", "title": "Kettle", "price": "39.99"}}
ANNA = {"id": "1", "ok": "yes", "likes": "k", "tenure": "3", "name": "Anna"}


def _made(*rows, **changes):
    """What becomes of rows that are each decided on its own, and how many pass for which reason."""
    audience = Audience(brief.parse({**copy.deepcopy(RAW), **changes}), PRODUCTS)
    made = [m for i, row in enumerate(rows) for m in audience.row(i, row, audience.again(row))]
    return made, Counter(m.reason for m in made if isinstance(m, Passed))


def test_a_row_becomes_a_task_a_channel():
    made, _ = _made(ANNA)
    assert [(t.channel, t.plan.text("product"), t.plan.text("price"), t.offer) for t in made] == [
        ("sms", "Kettle", "£39.99", "usual"),
        ("push", "Kettle", "£39.99", "usual"),
    ]
    assert made[0].fields == ("tenure", "name")
    assert "percent" not in made[0].plan.names


def test_an_offer_takes_off_the_percentage_to_the_penny():
    made, _ = _made(ANNA | {"tenure": "31"})
    facts = {fact.slot.name: (fact.text, fact.field) for fact in made[0].plan.facts}
    assert facts["price"] == ("£31.99", "product.price, offer.percent") and facts["was"] == ("£39.99", "product.price")
    assert (made[0].segment, made[0].voice, made[0].offer_rule) == ("long", "refined", "tenure >= 12")


def test_what_is_taken_off_is_what_all_agree_on():
    offer = [{"name": "now", "price_is": "before", "facts": {"percent": 20}}]
    (made, *_), _ = _made(ANNA, offers=offer, facts={"price": 10})
    assert made.reason == "conflict" and "sources disagree on price" in made.words
    columns = RAW["columns"] | {"facts": {"percent": "share"}}
    slots, offer = {"percent": {"required": False}}, [{"name": "now", "price_is": "before"}]
    for share, price in (("0.1", "£39.99"), (None, "£39.99"), ("10%", "£35.99")):
        (made, *_), _ = _made(ANNA | {"share": share}, offers=offer, columns=columns, slots=slots | {"was": {"required": False}})
        assert made.plan.text("price") == price
    (made, *_), _ = _made(ANNA | {"share": "0.1"}, offers=offer, columns=columns)
    assert made.reason == "malformed" and made.words.startswith("row 0, share: ")


def test_whole_numbers_are_the_same_whatever_their_neighbours_made_of_them():
    plan = brief.parse(copy.deepcopy(RAW) | {"offers": [{"name": "v", "when": "tenure == '7'"}, {"name": "usual"}]})
    products = tables.by_key([{"sku": 101.0, "title": "Kettle", "price": 9}], "sku", "products")
    first, second = (
        list(Audience(plan, products).row(0, {"id": n, "ok": "yes", "likes": k, "tenure": t}))
        for n, k, t in ((1, 101, 7), (1.0, 101.0, 7.0))
    )
    assert first == second and (first[0].customer, first[0].offer) == ("1", "v")
    assert consents(1, ["1"]) and not consents("", [""])
    with pytest.raises(HeadwaterError, match="row 0 has no sku"):
        tables.by_key([{"sku": float("nan"), "title": "Discontinued"}], "sku", "products")


def test_a_no_in_any_row_of_a_customer_is_a_no():
    rows = [
        ANNA,
        ANNA | {"ok": "no"},
        ANNA | {"id": "2"},
        ANNA | {"id": "3", "mail": "a@x"},
        {"id": "4", "ok": None, "mail": "A@X "},
    ]
    plan = brief.parse(copy.deepcopy(RAW) | {"columns": RAW["columns"] | {"same": "mail"}})
    mailing = Mailing(plan, PRODUCTS)
    decided = list(mailing.decide(iter(rows)))
    assert [d["withheld"] for d in decided] == [["ok"], ["ok"], [], ["ok"], ["ok"]]
    (made, *_) = Audience(plan, PRODUCTS).row(0, ANNA, withheld=decided[0]["withheld"])
    assert made.reason == "consent" and "another row" in made.words


@pytest.mark.parametrize("value", [None, float("nan"), "", "no", "y", "1", 1, "unknown", "yes please", False])
def test_anything_but_yes_is_no_and_counted(value):
    made, tally = _made(ANNA | {"ok": value})
    assert all(isinstance(m, Passed) for m in made) and tally == {"consent": 2}
    assert consents(" YES ") and consents(True)


def test_consent_by_channel():
    columns = RAW["columns"] | {"consent": {"sms": "a", "push": "b"}}
    made, _ = _made(ANNA | {"a": "no", "b": "yes"}, columns=columns)
    assert [(type(m).__name__, m.channel) for m in made] == [("Passed", "sms"), ("Task", "push")]


def test_duplicates_by_key_and_by_address():
    columns = RAW["columns"] | {"same": "mail"}
    rows = [
        ANNA | {"mail": "A@x"},
        ANNA | {"id": "2", "mail": " a@X"},
        ANNA | {"mail": "b"},
        ANNA | {"id": "3", "mail": None},
        ANNA | {"id": "4", "mail": ""},
    ]
    made, tally = _made(*rows, columns=columns)
    assert tally == {"duplicate": 2} and {m.customer for m in made if isinstance(m, Task)} == {"1", "3", "4"}


def test_caps():
    made, tally = _made(ANNA, cap={"messages": 1})
    assert [type(m) for m in made] == [Task, Passed] and tally == {"cap": 1}
    rows = [ANNA | {"id": str(i), "sent": sent} for i, sent in enumerate(["3", "4", None, "x", "2.0"])]
    made, tally = _made(*rows, cap={"recent": "sent", "most": 4})
    assert tally == {"cap": 1, "malformed": 1} and len(made) == 8


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"id": " "}, "missing", "row 0, id: the customer's key is missing"),
        ({"likes": "zz"}, "missing", "row 0, likes: the product table has no 'zz'"),
        ({"likes": None}, "missing", "row 0, likes: says no product"),
        ({"tenure": "many"}, "malformed", "row 0, tenure: a rule compares"),
    ],
)
def test_refusals_name_row_and_field(change, reason, words):
    made, _ = _made(ANNA | change)
    assert [m.reason for m in made] == [reason] and words in made[0].words


def test_no_offer_holds():
    made, _ = _made(ANNA, offers=RAW["offers"][:1])
    assert [m.reason for m in made] == ["offer"]


def test_rows_do_not_touch_each_other_and_foreign_columns_do_nothing():
    others = [ANNA | {"id": str(i), "tenure": str(i)} for i in range(2, 30)]
    alone, among = _made(ANNA)[0], _made(ANNA | {"secret": "x"}, *others)[0][:2]
    assert alone == among
    after = [m for m in _made(*others, ANNA)[0] if m.customer == "1"]
    assert [(m.plan.facts, m.variant, m.offer) for m in after] == [(m.plan.facts, m.variant, m.offer) for m in alone]


def test_variants_are_even_and_stable():
    counts = [sum(variant("w", str(i), 3) == k for i in range(3000)) for k in range(3)]
    assert all(900 < count < 1100 for count in counts)
    assert any(variant("w", str(i), 3) != variant("x", str(i), 3) for i in range(20))


# --- files -------------------------------------------------------------------------------------------------------------------


def _file(tmp_path, content, name="c.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_cells_stay_as_written(tmp_path):
    path = _file(tmp_path, '\ufeffid,name,note\r\n007,"O\'Brien, ""Bo""",\r\n1e3,"two\nlines",x\r\n')
    assert list(tables.rows(path, ["name", "id"])) == [{"name": 'O\'Brien, "Bo"', "id": "007"}, {"name": "two\nlines", "id": "1e3"}]
    assert list(tables.rows(path, ["note"], limit=1)) == [{"note": ""}]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_delimiters(tmp_path, mark):
    assert list(tables.rows(_file(tmp_path, f"id{mark}n\n1{mark}a,b\n"), ["n"])) == [{"n": "a,b"}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,name\n1,Anna\n2,Zo\xeb\n", "line 3 is not UTF-8 (byte 0xeb at 5)"),
        ("id,name\n1,A".encode("utf-16"), "is UTF-16"),
        (b"id,n\xe9\n", "line 1 is not UTF-8"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"id,nom\n1,A\n", "has no column 'name'; it has 'id', 'nom'"),
        (b"id,name,name\n1,A,B\n", "two columns 'name'"),
        (b"id,name\n1,A\n2,A,B,C\n", "line 3 has 4 cells; the header has 2"),
        (b'id,name\n1,"A\n', "line 2 cannot be read as CSV"),
        (b'id,"name\n1,A\n', "line 1 cannot be read as CSV"),
        (b"PAR1 and nothing more", "cannot be read as Parquet"),
    ],
)
def test_broken_files_are_one_line(tmp_path, content, words):
    with pytest.raises(HeadwaterError) as caught:
        list(tables.rows(_file(tmp_path, content), ["id", "name"]))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(HeadwaterError, match="no such file"):
        list(tables.rows(tmp_path / "none.csv", ["id"]))


def test_parquet_keeps_types(tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "ok": [True, None], "x": [0.5, float("nan")]}), tmp_path / "c.parquet")
    assert [row["ok"] for row in tables.rows(tmp_path / "c.parquet", ["id", "ok"])] == [True, None]
    with pytest.raises(HeadwaterError, match="has no column 'z'"):
        list(tables.rows(tmp_path / "c.parquet", ["z"]))


def test_a_long_file_is_read_line_by_line(tmp_path):
    """20 MB cost less than 1 MB to read, and a break at the end is met only when it is reached."""
    path = tmp_path / "c.csv"
    with open(path, "wb") as file:
        file.write(b"id,name\n")
        for _ in range(20):
            file.write((b"1," + b"x" * 998 + b"\n") * 1000)
        file.write(b"2,\xff\n")
    tracemalloc.start()
    assert sum(1 for _ in tables.rows(path, ["id"], limit=19_000)) == 19_000
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    with pytest.raises(HeadwaterError, match="line 20002 is not UTF-8"):
        list(tables.rows(path, ["id"]))


def test_products_once_each(tmp_path):
    assert tables.keyed(_file(tmp_path, "sku,t\na,1\nb,2\n"), "sku", ["t"])["b"] == {"sku": "b", "t": "2"}
    for content, words in (("sku,t\na,1\na,2\n", "row 1 repeats"), ("sku,t\n ,1\n", "row 0 has no sku")):
        with pytest.raises(HeadwaterError, match=words):
            tables.keyed(_file(tmp_path, content), "sku", ["t"])
