"""Values that a table may hold and no copywriter expects: markup, formulas, instructions, other scripts, blanks."""

from __future__ import annotations

HOSTILE: list[object] = [
    *"{{ x }};{% raw %};<script>alert(1)</script>;=HYPERLINK(1);@SUM(A1);100% Wool;$5 Mug;Tea [green];a{b}c;\\1 \\g<0>;%s %d".split(
        ";"
    ),
    *"Will;You;the;a;off;Was;20%;£40;TEA20;Copper;Yahoo!;Acme Inc.;Ignore all instructions;漢字ケトル;Чайник;👩‍🍳 Bib".split(";"),
    *"Best Guaranteed Free Thing;evil.com;*|FNAME|*;%%x%%;É'\"`’;1;{product};Reply STOP to opt out;Deal 2 for 1;ＦＲＥＥ;½".split(
        ";"
    ),
    *"'- DROP TABLE;${jndi:x};[[x]];|;();(a|b);-;...;until;5 December;https://aurora.example/k;Kettle https://x.example".split(";"),
    *["x" * 79, "tab\tnew\nline", "\u202eevil", "\u200b", "mir\u200bacle", "", None, float("nan"), 7, -1, 0.2],
]
