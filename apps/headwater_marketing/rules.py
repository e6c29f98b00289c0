"""Rules of a brief: which customers an offer or a segment is for, in a language of comparisons and nothing else.

``tenure >= 12 and plan in ["basic", "plus"] and not vip``: column names, numbers, strings, ``== != < <= > >=``, ``in``, ``not in``,
``and or not`` and brackets. Python's parser reads it, a whitelist of nodes lets it through, and what walks the tree is below:
nothing is evaluated, nothing can be called or reached into.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from headwater_marketing.facts import missing, plain
from headwater_marketing.plan import Refused

_LONGEST = 500
_DEEPEST = 20
_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_LANGUAGE = "comparisons of a column with numbers or strings (== != < <= > >= in, not in), joined by and, or, not"


@dataclass(frozen=True)
class Rule:
    """A parsed rule: its text, the columns it reads, its tree."""

    text: str
    columns: frozenset[str]
    tree: ast.expr

    def holds(self, row: str, values: Mapping[str, Any]) -> bool:
        """Whether a row fulfils it. A comparison with a missing value is false; a bare column is true for yes, true and 1.

        Raises :class:`Refused` where a number is asked of a value that is none."""
        return _holds(self.tree, row, values)


def parse(text: str, allowed: Collection[str]) -> Rule:
    """The rule of a text. Raises ``ValueError`` (a message for the user) for anything outside the language or the allow-list.

    >>> rule = parse("tenure >= 12 and city in ['Leeds', 'York']", ["tenure", "city"])
    >>> rule.holds("1", {"tenure": "14", "city": "York"}), rule.holds("2", {"tenure": None, "city": "York"})
    (True, False)
    >>> parse("__import__('os')", ["tenure"])
    Traceback (most recent call last):
    ValueError: "__import__('os')" is no part of a rule; expected comparisons of a column with numbers or strings ...
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a rule of {len(text)} characters; at most {_LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"cannot read the rule {text!r}; expected {_LANGUAGE}") from None
    columns: set[str] = set()
    _admit(tree, columns, text.strip(), _DEEPEST)
    foreign = sorted(columns - set(allowed))
    if foreign:
        lists = ", ".join(allowed) or "nothing"
        raise ValueError(f"the rule reads {', '.join(foreign)}, which columns.allow does not list (it lists {lists})")
    return Rule(text, frozenset(columns), tree)


def _admit(node: ast.expr, columns: set[str], text: str, deep: int) -> None:
    if deep == 0:
        raise ValueError(f"a rule nested deeper than {_DEEPEST}")
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _admit(value, columns, text, deep - 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _admit(node.operand, columns, text, deep - 1)
    elif isinstance(node, ast.Name):
        columns.add(node.id)
    elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Name):
        columns.add(node.left.id)
        for test, right in zip(node.ops, node.comparators, strict=True):
            if len(node.ops) > 1 or not _comparable(test, right):
                raise ValueError(f"{ast.get_source_segment(text, node)!r} is no comparison of a column with numbers or strings")
    else:
        raise ValueError(f"{ast.get_source_segment(text, node)!r} is no part of a rule; expected {_LANGUAGE}")


def _comparable(test: ast.cmpop, right: ast.expr) -> bool:
    if isinstance(test, ast.In | ast.NotIn):
        return (
            isinstance(right, ast.List | ast.Tuple) and bool(right.elts) and all(_constant(item) is not None for item in right.elts)
        )
    value = _constant(right)
    return type(test) in _ORDER and value is not None and (isinstance(test, ast.Eq | ast.NotEq) or not isinstance(value, str))


def _constant(node: ast.expr) -> str | float | None:
    """A string or number, also a negative one."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return sign * float(node.value)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) and sign == 1 else None


def _holds(node: ast.expr, row: str, values: Mapping[str, Any]) -> bool:
    if isinstance(node, ast.BoolOp):
        return (all if isinstance(node.op, ast.And) else any)(_holds(value, row, values) for value in node.values)
    if isinstance(node, ast.UnaryOp):
        return not _holds(node.operand, row, values)
    if isinstance(node, ast.Name):
        return plain(values.get(node.id)).lower() in ("yes", "true", "1")
    assert isinstance(node, ast.Compare) and isinstance(node.left, ast.Name)
    column, test, right = node.left.id, node.ops[0], node.comparators[0]
    value = values.get(column)
    if missing(value):
        return False
    if isinstance(right, ast.List | ast.Tuple):
        found = any(_same(row, column, value, _constant(item)) for item in right.elts)
        return found == isinstance(test, ast.In)
    wanted = _constant(right)
    if isinstance(wanted, str):
        return _ORDER[type(test)](plain(value), wanted)
    return _ORDER[type(test)](_number(row, column, value), wanted)


def _same(row: str, column: str, value: Any, wanted: str | float | None) -> bool:
    return plain(value) == wanted if isinstance(wanted, str) else _number(row, column, value) == wanted


def _number(row: str, column: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Refused("malformed", row, column, f"a rule compares it with a number; got {str(value)[:40]!r}") from None
