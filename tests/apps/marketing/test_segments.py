"""Clusters: the same whatever the order of the rows, in bounded memory, told in words."""

from __future__ import annotations

import random

import pytest

from headwater.errors import HeadwaterError
from headwater_marketing import brief, segments
from headwater_marketing.campaign import Campaign, Mailing
from headwater_marketing.segments import Clustering
from headwater_marketing.writing import number

RAW = {
    "name": "spring",
    "channels": ["push"],
    "facts": {"product": "Kettle"},
    "columns": {"key": "id", "consent": "ok", "allow": ["orders", "spend"]},
    "clusters": {"columns": ["orders", "spend"], "voices": ["lively", "warm", "refined"]},
}


def _people(n=150, seed=0):
    dice = random.Random(seed)
    centres = [(2, 30), (11, 400), (40, 90)]
    rows = []
    for i in range(n):
        orders, spend = round(dice.gauss(centres[i % 3][0], 1)), dice.gauss(centres[i % 3][1], 9)
        rows.append({"id": str(i), "ok": "yes", "orders": str(orders), "spend": f"{spend:.2f}"})
    return rows


def _decided(rows):
    found = Mailing(brief.parse(RAW)).decide(iter(rows))
    return {row["id"]: said["segment"] and said["segment"]["name"] for row, said in zip(rows, found, strict=True)}


def test_groups_are_found_and_do_not_depend_on_the_order():
    rows = _people()
    found = _decided(rows)
    assert [len({found[str(i)] for i in range(k, 150, 3)}) for k in range(3)] == [1, 1, 1]
    assert found["0"] == "cluster 1 of 3" and found["1"] == "cluster 2 of 3" and found["2"] == "cluster 3 of 3"
    assert _decided(rows[::-1]) == found
    random.Random(5).shuffle(rows)
    assert _decided(rows) == found


def test_only_some_rows_are_kept_for_the_fit(monkeypatch):
    monkeypatch.setattr(segments, "SAMPLE", 60)
    rows, ways = _people(), []
    for values in (rows, rows[::-1]):
        clustering = Clustering(brief.parse(RAW).clusters)
        for row in values:
            clustering.add(number(row["id"]), row)
        assert len(clustering.sample) == 60
        clustering.fit()
        ways.append((clustering.centres, clustering.scale))
    assert ways[0] == ways[1]
    lowest = sorted(number(row["id"]) for row in rows)[:60]
    assert sorted(-mark for mark, _ in clustering.sample) == lowest


def test_a_cluster_gives_voice_and_reason_and_its_columns_count_as_used():
    rows = [
        *_people(60),
        {"id": "x", "ok": "yes", "orders": "", "spend": "3"},
        {"id": "y", "ok": "yes", "orders": "many", "spend": "3"},
    ]
    frame = Campaign(RAW, None).write(rows)
    assert dict(zip(frame.customer[:3], frame.voice, strict=False)) == {"0": "lively", "1": "warm", "2": "refined"}
    assert set(frame.segment[60:]) == {""} and set(frame.voice[60:]) == {"warm"}
    assert frame.fields[0] == "orders, spend" and frame.segment_rule[0].startswith("nearest to orders 2")


def test_a_rule_goes_first():
    plan = RAW | {"segments": [{"name": "big", "when": "orders > 30", "voice": "crisp"}]}
    frame = Campaign(plan, None).write(_people(60))
    assert set(frame.segment) == {"cluster 1 of 3", "cluster 2 of 3", "big"} and set(frame.voice[2::3]) == {"crisp"}


def test_mistakes_are_told():
    with pytest.raises(HeadwaterError, match="3 voices; the columns orders, spend hold only 1 different rows"):
        _decided([{"id": str(i), "ok": "yes", "orders": "1", "spend": "2"} for i in range(9)])
    with pytest.raises(HeadwaterError, match=r"clusters\.columns reads age, which columns.allow does not list"):
        brief.parse(RAW | {"clusters": {"columns": ["age"], "voices": ["warm", "crisp"]}})
    with pytest.raises(HeadwaterError, match=r"clusters\.voices: list should have at least 2 items"):
        brief.parse(RAW | {"clusters": {"columns": ["orders"], "voices": ["warm"]}})
