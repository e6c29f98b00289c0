"""How the facts of the ViGGO video games are said in words.

A port, as patterns, of the slot aligner published with the data: Juraska, Bowden and Walker, 2019, "ViGGO: a video game corpus for
data-to-text generation in open-domain conversation", https://aclanthology.org/W19-8623; ``slot_aligner`` of
https://github.com/jjuraska/slug2slug (MIT licence). As there, a platform behind a negation, with no contrast between them, is one
that the game is not for, and opinions are told by many words, some of which may tell either of two. Unlike there, what nobody
asked for is counted, but for words that are said of other things, too ("you'd love it").
"""

from __future__ import annotations

from headwater_marketing.realisations import Patterns, Phrasing

_NO = (
    r"no[rt] (?:is|was|does|can) (?:it|the game)|not|no|non|nor|neither|never|none|without|lack(?:s|ing|ed)?(?: of)?|cannot"
    r"|unavailable|non-availability|omission of|yet to|if only|wish(?:ed)?"
    r"|(?:is|are|was|were|do|does|did|has|have|had|ca|wo|could|would|should)n['’]t"
)
_ELSE = (  # words behind which another thing is denied, or nothing
    "but|however|although|though|while|whereas|which|so|if|because|since|only|except|is|are|it['’]s|it (?:does|has|is|can)"
    "|there|and (?:it|is|are|was|has|can|you|runs)|fans?|fond|like[ds]?|love[ds]?|enjoy(?:ed|s|ing)?|hated?|dislike[ds]?|care|sure"
    "|fun|good|better|worth|interested|interesting|enough|as good|about|many|other|games|titles|been for|too|remember|idea"
)
#: Words between a negation and what it denies.
_GAP = rf"(?:,? (?!(?:{_ELSE}|{_NO})\b)[\w'’/{{}}-]+){{0,8}},?"
_PLATFORM = "(?:Steam|Linux|Macs?|multiplayer)"
#: A denial behind it.
_BEHIND = (
    rf"(?:(?:,|,? (?:and|or|nor)|/) {_PLATFORM})*"
    r"(?: (?:OS|releases?|versions?|support|systems?|users?|modes?|options?|platforms?))?"
    r"(?: (?:(?:is|are|was|were|has|have|does|do)(?: not| never|n['’]t)|(?:is|are) unavailable|was dropped|are out of luck)"
    r"|, you(?: are|['’]re) out of luck)"
)


def _switch(word: str, *no: str) -> dict[str, tuple[str, ...]]:
    """Something that is there, or is denied before or behind its name."""
    return {"yes": (word,), "no": (rf"(?:{_NO}){_GAP} (?:[\w-]+[-/])?{word}", word + _BEHIND, *no)}


def _rated(letter: str, whom: str) -> tuple[str, ...]:
    rated = r"(?:rat(?:ed|ing)(?: of| as| is|:)?(?: an?)? )"
    return (
        rf"{rated}?{letter} \(for {whom}\)",
        rf"{rated}{letter}",
        rf"{letter}-? ?(?:content )?rat(?:ed|ings?)",
        f"{letter},? for {whom}",
    )


_MULTIPLAYER = "(?<!massive )(?<!massively )mult?i-?player"
_OLDER = "(?:and|or) (?:older|above|up|over)"
_PERSON = "(?:person|player)"
PATTERNS: Patterns = {
    "genres": {
        "MMORPG": (
            "MMO(?:RPG)?s?",
            "massive(?:ly)?[- ]multi-?player(?:[- ]online)?(?: role[- ]playing(?: games?)?| RPGs?| games?)?",
        ),
        "action": ("action",),
        "action-adventure": (
            r"action(?:[-/ ]+|,? and |, | & |-packed )adventur\w+",
            r"adventur\w+(?:[-/ ]| and |, |-filled )action",
        ),
        "adventure": (r"adventur\w+",),
        "arcade": ("arcades?",),
        "driving/racing": (
            "driving(?:[-/ ]| and | or |, )racing",
            "racing(?:[-/ ]| and | or )driving",
            "driving",
            "rac(?:ing|ers?|es?)",
        ),
        "fighting": ("fight(?:ing|ers?|s)?",),
        "hack-and-slash": (r"hack[- ](?:and|n|['’]n['’]|&)[- ]slash(?:er|ers|ing)?",),
        "indie": ("indies?",),
        "music": ("music(?:al)?", "rhythm"),
        "pinball": ("pinball",),
        "platformer": ("platform(?:ers?|ing)", "platform games?"),
        "point-and-click": ("point[- ](?:and|n|&)[- ]click",),
        "puzzle": ("puzzl(?:es?|ers?|ing)",),
        "real-time strategy": ("real[- ]?time(?: strateg(?:y|ies|ic))?", "RTS"),
        "role-playing": ("role[- ]?play(?:ing|ers?|s)?", "RPGs?"),
        "shooter": ("shoot(?:ers?|ing)?", "shoot[- ](?:['’]?em|them)[- ]ups?"),
        "simulation": ("simulat(?:ions?|ors?|ed|es?|ing)", "sims?"),
        "sport": (r"sport(?:s|ing)?(?! (?:an?|the|both)\b)",),
        "strategy": ("strateg(?:y|ies|ic|ist|ize|ically)",),
        "tactical": ("tactic(?:al|s|ally)?",),
        "text adventure": (r"text(?:[- ]based)?[- ]adventur\w+", "text"),
        "trivia/board game": (
            "trivia(?:(?:[-/ ]| and | or |, | & )board)?(?:[- ]games?)?",
            "board(?:[-/ ]| and | or )(?:trivia|games?)",
        ),
        "turn-based strategy": ("turn[- ]?based(?: strateg(?:y|ies|ic))?",),
        "vehicular combat": (r"vehic(?:le|ular)s?[- ]combat", "vehicular"),
    },
    "platforms": {
        "PlayStation": ("play ?stations?",),
        "Xbox": ("x-?box(?:es)?",),
        "Nintendo": ("Nintendos?",),
        "Nintendo Switch": (r"Nintendo(?:['’]s)? Switch",),
        "PC": ("PCs?", "Windows"),
    },
    "player_perspective": {
        "first person": (f"first[- ]{_PERSON}",),
        "third person": (f"third[- ]{_PERSON}",),
        "bird view": (r"bird(?:['’]?s['’]?)?(?:[- ]eyes?)?[- ](?:view|perspective)", r"bird['’]?s[- ]eye", "top[- ]down"),
        "side view": ("side[- ](?:view|perspective)", "side[- ]?scroll(?:ers?|ing)"),
    },
    "esrb": {
        "E (for Everyone)": _rated("E(?! ?10)", "everyone"),
        "E 10+ (for Everyone 10 and Older)": (
            *_rated(r"E ?10(?:\+| plus)", f"everyone 10 {_OLDER}"),
            r"E ?10\+",
            f"(?:every|any)one (?:aged? |over |above )?(?:10|ten)(?: {_OLDER})?",
        ),
        "T (for Teen)": _rated("T", "teens?"),
        "M (for Mature)": _rated("M", "mature"),
    },
    "available_on_steam": _switch("Steam"),
    "has_linux_release": _switch("Linux"),
    "has_mac_release": _switch("Macs?(?: OS)?"),
    "has_multiplayer": _switch(_MULTIPLAYER, "single[- ]players?"),
    "rating": {
        "excellent": ("excellent(?:ly)?",),
        "good": ("good (?:rating|review|score)s?",),
        "average": ("average", "mediocre"),
        "poor": ("poor(?:ly)?",),
    },
}  # fmt: skip

_LIKED = (  # a good game or an excellent one
    "lov(?:ed?|es|ing)|great|best|favou?rites?|fun|dug|digs?|cool|fans?|fond|enjoy(?:s|ed|ing|able|ment)?|entertain(?:s|ed|ing)?"
    "|impress(?:ed|es|ive)|appeal(?:s|ing)?|special|unique|interest(?:ed|ing)|fascinat(?:ed|ing)|highly"
    "|high (?:opinion|praise|regard|rating|review|score)s?|prais(?:ed?|es|ing)|prefer(?:s|red)?|excit(?:ed|ing)|good time|blast"
    "|recommend(?:s|ed|ing)?|pleas(?:ant|ed|ure)|perfect(?:ly)?|stand out|thrilling|positive(?:ly)?"
)
_GOOD = (
    "good|solid|nice(?:ly)?|decent|strong|acclaim(?:ed)?|appreciated?|liked|liking"
    "|(?:I|you|really|also|quite|generally|normally|typically|usually|mostly|to) like"
    "|(?:am|are|is|was|were|so|really|pretty|super|that|you['’]re|I['’]m) into"
    "|(?:very|pretty|really|quite|do|does|did|done|plays|works) well"
)
_EXCELLENT = (
    "superb|superior|attractive|really like[ds]?|amaz(?:ed|es|ing|ingly)|awesome|fantastic|incredibl[ey]|ador(?:ed?|es|ing)"
    "|top(?!-)|flawless|masterpiece|gorgeous|rave[ds]?|phenomenal"
)
_SO_SO = (
    "okay|ok|averagely|so-so|run-of-the-mill|ordinary|forgettable|good enough|inadequate|uninspired|decent(?:-ish)?"
    "|indifferen(?:t|ce)|lukewarm|ambivalent|neutral|meh|middling|middle[- ]of[- ]the[- ]road|alright|all right|moderate(?:ly)?"
    r"|passable|unenthusiastic|(?:be|been)(?: \w+){0,2} better|nothing (?:special|spectacular|amazing)|take it or leave it"
)
_LACKING = "lackluster|lacking|underwhelm(?:ed|ing)|unimpress(?:ed|ive)"  # an average game or a poor one
_BAD = (
    "dislik(?:ed?|es|ing)|bad(?:ly)?|terribl[ey]|horribl[ey]|awful|hat(?:ed?|es|ing)|disappoint(?:ed|ing|ments?)|boring|bored|worst|worse"
    "|unpleasant|off-putting|annoy(?:ed|ing)|unhappy"
)
_POOR = (
    "lame|weak|wrong|bother(?:s|ed)|stunk|sour|puts? (?:you|me) off|turn(?:s|ed)?[- ](?:me |you )?off|unacceptable"
    "|distasteful|unappealing|unenjoyable|avoid(?:ed|ing)?|mess|low|negative|misstep|failed|flaw(?:s|ed)?"
    "|can(?:['’]t|not) stand|uninteresting|dull|fell flat"
)
_NOT = (
    rf"(?:{_NO}|hardly|barely)"
    rf"(?: (?!(?:but|and|however|although|though|because|since|only|it has|{_NO})\b)[\w'’{{}}-]+){{0,6}}"
)
_NOT_GOOD = (
    rf"{_NOT} (?:{_LIKED}|{_GOOD}|{_EXCELLENT}|likes?|into|well|care[ds]?|regard|(?:cup of )?tea|thing|sold|happy|excellent|worth"
    "|for (?:me|you)|engaging|live up|excelled|strongly)"
)
_OPINIONS = {
    "excellent": (_LIKED, _EXCELLENT),
    "good": (_LIKED, _GOOD),
    "average": (_SO_SO, _LACKING, _NOT_GOOD, rf"{_NOT} (?:{_BAD}|poor)"),
    "poor": (_BAD, _LACKING, _POOR, _NOT_GOOD),
}
_TOGETHER = "with (?:your |my |some |other |multiple )?(?:friends|others|people|players)"
LOOSE: Patterns = {
    "rating": {value: tuple(rf"(?:{words})" for words in several) for value, several in _OPINIONS.items()},
    "esrb": {
        "E (for Everyone)": ("everyone", "all (?:ages|audiences)", "(?:family|kid|child)[- ]friendly", "(?:whole )?family", "kids"),
        "T (for Teen)": ("teen(?:s|age|ager|agers)?",),
        "M (for Mature)": ("mature", "maturity", "adults?"),
        "?": (r"ESRB(?:,? content)?(?:,? (?:rating|label))?s?", "content (?:rating|label)s?"),
    },
    "genres": {
        "driving/racing": ("driv(?:es?|ers?)", "cars?"),
        "platformer": ("platform",),
        "fighting": ("combat",),
        "?": ("genres?",),
    },
    "platforms": {"PC": ("computers?",), "?": ("platforms?",)},
    "player_perspective": {"?": ("(?:player )?perspectives?",)},
    "release_year": {"?": ("years?",)},
    "developer": {"?": (r"(?<!\{)developers?",)},
    "has_multiplayer": {"yes": (_TOGETHER,), "no": (f"{_NOT} {_TOGETHER}", "solo"), "?": (_MULTIPLAYER,)},
    "available_on_steam": {"?": ("Steam",)},
    "has_linux_release": {"?": ("Linux",)},
    "has_mac_release": {"?": ("Macs?(?: OS)?",)},
}  # fmt: skip
_FIRST, _THIRD = ("player_perspective", "first person"), ("player_perspective", "third person")
_BOTH = r"(?:[/,]|,? (?:and|or|&|as well as|and/or))(?: the| a)? ?"
_RPG, _TURNS, _TIME = ("genres", "role-playing"), ("genres", "turn-based strategy"), ("genres", "real-time strategy")
JOINT = {
    f"first{_BOTH}third[- ]{_PERSON}": (_FIRST, _THIRD),
    f"third{_BOTH}first[- ]{_PERSON}": (_FIRST, _THIRD),
    "FPS": (_FIRST, ("genres", "shooter")),
    "(?:strategic )?turn[- ]based (?:role[- ]playing|RPG)(?: strategy)?": (_TURNS, _RPG),
    "real[- ]time (?:role[- ]playing|RPG) strategy": (_TIME, _RPG),
    "turn[- ]based simulation[- ]strategy": (_TURNS, ("genres", "simulation")),
}  # fmt: skip
GAMES = Phrasing(
    PATTERNS,
    loose=LOOSE,
    joint=JOINT,
    nested=True,
    joins={
        rf"(?i)\b{_PLATFORM}\b.{{0,30}}$": rf"(?i)\b(?:{_NO}|unavailable|dropped|luck)$",
        r"(?i)\b(?:role|real|turn|hack.*|point.*|play|text|platform|board|trivia.*|first|third|birds?.*|side|top)$": (
            r"(?i)\b(?:play(?:ing|ers?)?|time|based|slash(?:er)?|click|stations?|games?|person|view|perspective|eyes?|down|scroll(?:er|ing))$"
        ),
        r"(?i)\b(?:rat(?:ed|ing).{0,9}|[EMT]|everyone|anyone|E 10.*|single)$": (
            r"(?i)\b(?:[EMT]|rat(?:ings?|ed)|content|10|older|players?)$"
        ),
    },
    turns={
        rf"(?i)\b(?:{_NO}){_GAP}$": rf"(?i)^ (?:[\w-]+[-/])?{_PLATFORM}",
        rf"(?i)\b{_NOT}$": rf"(?i)^ (?:{_LIKED}|{_GOOD}|{_EXCELLENT}|{_BAD}|excellent|poor|well|likes?|with)\b",
        r"(?i)\b(?:action|adventur\w+|driving|racing|turn|real|strategic|first|third|Nintendo|good|FPS|text|text-based)"
        r"(?:,? (?:and|or|as well as|&)(?: the| a)?|,)?$": (
            "(?i)^ (?:action|adventur|driving|racing|role|RPG|simulation|strateg|first|third|Switch|ratings?|reviews?|trivia|board)"
        ),
    },
    reach=10,
)
