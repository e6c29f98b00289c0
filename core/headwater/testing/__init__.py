"""What helps to trust a domain or a family: the conformance kit for plug-ins, and distributions known exactly (:mod:`.truth`).

In a plug-in's tests, ``test_conformance = headwater.testing.conformance(Levels())`` is a whole suite.
"""

from __future__ import annotations

from headwater.testing.conformance import Check, Outcome, checks, conformance, run

__all__ = ["Check", "Outcome", "checks", "conformance", "run"]
