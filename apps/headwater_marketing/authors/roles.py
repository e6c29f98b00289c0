"""Whether a fact that is right stands where it misleads: "until {price}", "was {code}", "{percent} off" of what is already reduced.

The validator holds facts against the plan, not the sentence around them. Our own models have learnt the sentences; another language
model has not, so a draft of its own is only taken where the words around a fact are some that it can stand with.
"""

from __future__ import annotations

import re

_NEAR = r"(?:[^.!?{}\n]|\{\w+\})"  # within a sentence
_OLD = r"was|were|before|previously|formerly|originally|normally|usually|instead of|down from|from|used to|until now"
#: For a placeholder, what its sentence must hold ("@" is the placeholder).
_MUST: dict[str, str] = {
    "was": rf"\b(?:{_OLD})\b{_NEAR}{{0,24}}@",
    "until": rf"\b(?:until|till|by|ends?|ending|before|lasts?|through|remember|put|runs?|deadline|day)\b{_NEAR}{{0,24}}@",
    "code": rf"\b(?:code|use|enter|quote|type|with|pop|apply|say|word|for)\b{_NEAR}{{0,30}}@|@{_NEAR}{{0,30}}\b(?:code|checkout)\b",
    "percent": r"@ (?:off|less|lower|of a)\b"
    rf"|\b(?:saves?|saving|reduction|reduced|discount|down|dropped|lowered|less|by|at|draw)\b{_NEAR}{{0,24}}@",
}
#: And what may not stand right before it, or right behind.
_MUST_NOT: dict[str, str] = {
    "price": r"\b(?:was|were|until|till|previously|formerly|before|save|saves|code|off|than)[ :]+@|@ off\b|\bdown from @",
    "code": r"\b(?:was|until|till|by|for only|off)[ :]+@",
    "percent": r"@ off \{price\}|\b(?:until|till|was|code)[ :]+@",
    "brand": r"\b(?:was|until|till|code|off)[ :]+@|@ was (?!\{was\})",
    "product": r"\b(?:was|until|till|code)[ :]+@|@ was (?!\{was\})",
    "url": r"\b(?:was|until|till|code|for|off)[ :]+@|@ was\b",
    "feature": r"\b(?:was|until|till|code|off|at|for)[ :]+@|@ (?:was|is)\b",
    "first_name": r"\b(?:was|until|till|code|off|at|by|with)[ :]+@|@ was\b",
}


def misplaced(text: str) -> str | None:
    """The first fact that stands where it misleads.

    >>> misplaced("{product} was {was}, now {price} until {until}.")
    >>> misplaced("{product}, until {price}."), misplaced("{price}. {was}.")
    ('{price} stands where it misleads', '{was} stands where it misleads')
    """
    for name in dict.fromkeys(re.findall(r"\{(\w+)\}", text)):
        here = text.replace("{" + name + "}", "@")
        wanted, banned = _MUST.get(name), _MUST_NOT.get(name)
        if (wanted and not re.search(wanted, here, re.I)) or (banned and re.search(banned, here, re.I)):
            return f"{{{name}}} stands where it misleads"
    return None
