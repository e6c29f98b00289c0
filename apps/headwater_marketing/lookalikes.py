"""Letters that look like Latin ones, and words hidden in print: what a banned word may be disguised as.

The table holds every character of the basic plane that Unicode's confusables name as a look-alike of a Latin letter and that
compatibility decomposition (NFKD) does not undo by itself, and the lower case of its capitals. Unicode Technical Standard 39,
confusables.txt, https://www.unicode.org/reports/tr39/ (Unicode Licence v3), read through confusable-homoglyphs 3.3.1 (MIT).
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata

_LOOKS: dict[str, str] = {
    "a": "ɑΑαАаᎪᗅꓮꭺ",
    "b": "ƄƅΒβВЬвьᏏᏴᏼᑲᖯᗷꓐꞴꞵꮟ",
    "c": "СсᏟᴄⲤⲥꓚꮯ",
    "d": "ԁᎠᏧᑯᗞᗪꓒꓓꭰꮷ",
    "e": "ΕεЕеҽᎬ℮⋿ⴹꓰꬲꭼ",
    "f": "ϜϝքᖴẝꓝꞘꞙꬵ",
    "g": "ƍɡԌԍցᏀᏳᏻᶃꓖꮐ",
    "h": "ΗηНнһհᎻᏂᕼⲎⲏꓧꮋꮒ",
    "i": "ıɩɪιіӏᎥꙇꭵ",
    "j": "ʝͿϳЈјᎫᒍꓙꞲꭻ",
    "k": "ΚκКкᏦᛕⲔⲕꓗꮶ",
    "l": "ƖǀΙІӀ۱ᏞᒪᛁⲒⲓⳐⳑⵏꓡꓲꮮ",
    "m": "ΜμϺϻМмᎷᗰᛖⲘⲙꓟꮇ",
    "n": "ΝոռⲚⲛꓠ",
    "o": "ΟοσОоՕօ۵०০੦૦ଠ୦௦ం౦ಂ೦ംഠ൦ං๐໐ဝ၀ჿዐᴏᴑⲞⲟⵔ〇ꓳꬽ",
    "p": "ΡρРрᏢᑭⲢⲣꓑꮲ",
    "q": "ԛգզⵕ",
    "r": "ƦʀгᎡᏒᖇᴦⲅꓣꭇꭈꭱꮁꮢ",
    "s": "ƽЅѕՏտᏕᏚꓢꜱꮥꮪ",
    "t": "ΤτТтᎢⲦⲧꓔꭲ",
    "u": "ʋυՍսሀᑌᴜꓴꞟꭎꭒ",
    "v": "νѴѵ۷Ꮩᐯᴠⴸꓦꛟꮩ",
    "w": "ɯѡԜԝաᎳᏔᴡꓪꮃꮤ",
    "x": "ΧχХхᕁᕽ᙭᙮ᚷⲬⲭⵝꓫꞳꭓ×",
    "y": "ɣʏΥγУуҮүყᎩᎽᶌỿⲨⲩꓬꭚꭹꮍ",
    "z": "ΖζᏃᴢꓜꮓ",
}
_STRUCK = {"o": "ØøƟɵ", "d": "Đđ", "h": "Ħħ", "l": "Łł", "t": "Ŧŧ", "b": "ƀ", "z": "Ƶƶ"}  # a stroke is no mark to NFKD
_LATIN = {ord(look): letter for table in (_LOOKS, _STRUCK) for letter, looks in table.items() for look in looks}
_MARKS = str.maketrans(dict.fromkeys("™®©℠", " "))  # decomposition would make letters of two of them
_UPRIGHT = dict.fromkeys(map(ord, "ƖΙІӀⲒⵏꓲᏞ"), "i")  # a bare stroke is l or a capital i; read both ways
# Digits and signs read as letters; 1 and | as l and, in a second reading, as i.
_SIGNS = [(str.maketrans("013457$@|", "oleastsal"), _LATIN), (str.maketrans("013457$@|", "oieastsai"), _LATIN | _UPRIGHT)]

# Such figures and signs between letters, before two of them or behind two of them; "20%" and "now!" stay.
_INSIDE = re.compile(
    r"(?<=[A-Za-z])[013457$@|]+(?=[A-Za-z])|(?<![\w.,])[013457$@|]+(?=[A-Za-z]{2})|(?<=[A-Za-z]{2})[013457$@|]+(?!\w)"
)


def fold(text: str) -> str:
    """Text as a hurried eye reads it: no accents, no invisible characters, look-alikes as Latin, lower case.

    >>> fold("Сhеареѕt"), fold("ｆｒéе"), fold("b\\u200best"), fold("𝕓𝕖𝕤𝕥")
    ('cheapest', 'free', 'best', 'best')
    """
    if text.isascii():
        return text.casefold()
    parts = unicodedata.normalize("NFKD", text.translate(_MARKS))
    plain = "".join(c for c in parts if c < "\x80" or unicodedata.category(c) not in ("Mn", "Me", "Cf"))
    return plain.translate(_LATIN).casefold()


@functools.lru_cache(maxsize=4096)  # a message is judged line by line, and again as a whole
def readings(text: str) -> tuple[str, ...]:
    """The text folded, and folded again with figures and signs between letters read as letters (fr33, be5t, beIow).

    >>> readings("Fr33 tea at 5")
    ('fr33 tea at 5', 'free tea at 5')
    """
    plain = "".join(c for c in unicodedata.normalize("NFKC", text) if c < "\x80" or unicodedata.category(c) != "Cf")
    found = [fold(text)]
    for signs, latin in _SIGNS:
        letters = re.sub(r"(?<=[a-z])I", "l", plain) if latin is _LATIN else plain
        found.append(fold(_INSIDE.sub(lambda figures, signs=signs: figures.group().translate(signs), letters.translate(latin))))  # type: ignore[misc]
    return tuple(dict.fromkeys(found))


@functools.lru_cache(maxsize=4096)
def hunt(*phrases: str) -> re.Pattern[str]:
    """A pattern that finds any of the words or phrases in folded text: whole words only, whatever stands between their letters
    (b.e s-t), letters stretched (beeest); a final ``*`` allows any ending.

    >>> [bool(hunt("best").search(fold(t))) for t in ("the BEST", "b e s t", "b.e.s.t", "beeest", "bestow", "asbestos")]
    [True, True, True, True, False, False]
    >>> bool(hunt("free", "guarantee*").search("guaranteed"))
    True
    """
    return re.compile(r"(?<![^\W_])(?:" + "|".join(_pattern(fold(phrase).strip()) for phrase in phrases or [""]) + ")")


def _pattern(phrase: str) -> str:
    letters = [c for c in phrase if c.isalnum()]
    if not letters:
        return r"(?!)"  # nothing to find, never found
    pieces = []
    for letter, run in itertools.groupby(letters):
        one, n = re.escape(letter), len(list(run))
        pieces.append(f"{one}(?:{_BETWEEN}{one}){{{n - 1}}}(?:(?:{_BETWEEN}{one}){{2,}})?")
    return _BETWEEN.join(pieces) + ("" if phrase.endswith("*") else r"(?![^\W_])")


_BETWEEN = r"[\W_]*"
