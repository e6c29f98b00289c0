"""The domain as a whole: the kit's checks that need no training, its page, and what a report says of a phrase."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from headwater.testing import domain_checks, surface_checks
from headwater.testing.subject import Subject
from headwater_music import Music
from headwater_music.data import sample
from headwater_music.score import Phrase

CHECKS = (
    domain_checks.names, domain_checks.reserved_names, domain_checks.condition, domain_checks.partial_conditions,
    domain_checks.encode, domain_checks.round_trip, domain_checks.data_is_valid, domain_checks.features, domain_checks.metrics,
    surface_checks.render, surface_checks.files,
)  # fmt: skip


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(Music())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_kit(check: Callable[[Subject], object], subject: Subject) -> None:
    check(subject)


def test_importing_it_is_light() -> None:
    heavy = "{'torch', 'music21', 'symusic', 'verovio'}"
    code = f"import sys, headwater_music; headwater_music.Music(); print({heavy} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "set()"


def test_a_record_tells_rules_and_memory() -> None:
    record = Music().record(sample()[0])
    assert record["key"] == "C major" and record["bars"] == 4 and record["parallel_fifths"] == 0
    assert 0 < record["copied_frames"] < 32 and record["copied_from"].startswith("bwv")
    silent = Music().record(Phrase(np.zeros((3, 4)), np.zeros((3, 4))))
    assert silent["notes"] == 0 and silent["copied_frames"] == 0


def test_a_page_says_what_is_wrong() -> None:
    silent = Phrase(np.zeros((3, 4)), np.zeros((3, 4)))
    assert "nothing sounds in it" in Music().render(silent)
    half = Phrase(np.repeat([[72, 67, 64, 0]], 4, axis=0), np.zeros((4, 4)))
    assert "the bass is silent throughout" in Music().render(half)


def test_the_soundfont_can_be_fetched() -> None:
    from headwater.data import cards

    assert "timgm6mb" in cards({"music": Music()})
