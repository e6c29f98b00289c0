"""Which of music21's chorales are held out from training, by the names of their files, and why.

``valid`` and ``test``: the pieces of the benchmark's splits. ``apart``: in no split, since they share too much with one of those.

Found once (2026-11) and written down, so that a training needs music21 alone:

1. The index-to-BWV map that came with the data names 140 pieces for the 153 of the two splits; 131 files of those names are among
   the corpus's 363 four-part pieces (five more have more parts). Compared by their notes, all but two of the 131 share at least .3
   with the piece they are said to be; ``bwv378`` and ``bwv36.8-2`` do not and are held out all the same.
2. Whatever shares .2 or more with a piece of the two splits, mapped or not, in any key: 21 more. Eight share .6 or more and take
   its split (six are unmapped pieces, two other prints of mapped ones); 13 set the same tune much alike and are ``apart``.

What two pieces share: of the windows of the held-out piece that are not silent and not one held chord, those that the other piece
has too, all four voices, relative to the window's first pitch. Windows are eight sixteenths, or six successive chords whatever
their length (encodings differ in note values by two); the larger share counts. 211 pieces remain; one of them changes metre and is
left out too.
"""

from __future__ import annotations

_VALID = (
    "bwv2.6 bwv10.7 bwv11.6 bwv14.5 bwv17.7 bwv25.6 bwv36.4-2 bwv36.8-2 bwv77.6 bwv88.7 bwv103.6 bwv111.6 bwv115.6 bwv121.6 "
    " bwv127.5 bwv133.6 bwv140.7 bwv151.5 bwv154.8 bwv168.6 bwv169.7 bwv176.6 bwv177.5 bwv179.6 bwv188.6 bwv197.10 bwv226.2 "
    " bwv244.46 bwv245.17 bwv253 bwv258 bwv261 bwv264 bwv268 bwv269 bwv275 bwv280 bwv281 bwv287 bwv288 bwv302 bwv307 bwv310 "
    " bwv314 bwv315 bwv318 bwv319 bwv323 bwv329 bwv341 bwv347 bwv351 bwv354 bwv355 bwv362 bwv365 bwv367 bwv378 bwv383 "
    " bwv391 bwv400 bwv408 bwv411 bwv414 bwv417 bwv418 bwv420 bwv434 bwv435 bwv438"
)
_TEST = (
    "bwv7.7 bwv9.7 bwv13.6 bwv32.6 bwv37.6 bwv40.8 bwv43.11 bwv45.7 bwv57.8 bwv60.5 bwv64.4 bwv65.7 bwv67.7 bwv69.6-a "
    " bwv78.7 bwv85.6 bwv87.7 bwv90.5 bwv93.7 bwv99.6 bwv102.7 bwv110.7 bwv112.5 bwv114.7 bwv126.6 bwv145-a bwv148.6 "
    " bwv153.9 bwv159.5 bwv174.5 bwv184.5 bwv197.5 bwv244.3 bwv245.5 bwv245.14 bwv245.37 bwv248.46-5 bwv248.53-5 bwv256 "
    " bwv270 bwv276 bwv289 bwv290 bwv291 bwv292 bwv294 bwv298 bwv306 bwv311 bwv316 bwv317 bwv326 bwv327 bwv331 bwv338 "
    " bwv339 bwv340 bwv350 bwv361 bwv366 bwv371 bwv393 bwv404 bwv405 bwv410 bwv419 bwv429 bwv430 bwv431"
)
_APART = "bwv5.7 bwv16.6 bwv44.7 bwv56.5 bwv70.7 bwv84.5 bwv144.3 bwv245.15 bwv245.28 bwv324 bwv416 bwv433 bwv436"

#: The split of each piece held out; any other chorale is trained on.
HELD_OUT: dict[str, str] = {
    name: split for split, names in (("valid", _VALID), ("test", _TEST), ("apart", _APART)) for name in names.split()
}
