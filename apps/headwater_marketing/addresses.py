"""The endings of addresses that mail programs and phones make links of by themselves."""

from __future__ import annotations

#: Country codes, and general endings that see much use (https://data.iana.org/TLD/tlds-alpha-by-domain.txt).
ENDINGS = tuple(
    (
        "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bv bw by bz ca"
        " cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr"
        " ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm"
        " jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq"
        " mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa"
        " re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to"
        " tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw com net org info biz shop app dev"
        " xyz top site online store club live link click page cloud tech pro vip win zip mov fun space website blog news"
        " today world life email digital agency asia cat mobi name tel travel jobs aero coop museum edu gov mil int bot"
        " bid loan men work party review stream trade webcam date racing download science accountant cricket faith"
    ).split()
)
