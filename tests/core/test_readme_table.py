"""The table of families and verbs in README.md is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.families import FAMILIES
from headwater.report.families import BEGIN, END, main, page, verbs_table

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_holds_the_table_of_the_code() -> None:
    said = README.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()
    assert said == verbs_table(), "run: python -m headwater.report.families README.md"


def test_every_family_has_a_row_and_every_verb_a_column() -> None:
    head, _, *rows = verbs_table().splitlines()
    assert head == "| family | space | sample | infill | vary | restore | score | optimise |"
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows if "over a latent" not in row and ", restores" not in row] == [
        name.replace("_", " ") for name in FAMILIES
    ]
    cells = {row.split(" | ")[0].removeprefix("| "): [cell.strip() for cell in row.strip("|").split("|")] for row in rows}
    assert cells["autoregressive"][1:] == [
        "Tokens", "new items, token by token", "keeps a prefix", "", "", "exact log-likelihood", "policy gradient",
    ]  # fmt: skip
    assert cells["spline flow"][6] == "Grid: exact, a bound of grey levels; Vector: exact"
    over = {name: (row[4], row[6]) for name, row in cells.items() if "over a latent" in name}
    assert over["diffusion over a latent"] == ("latent, partial noise", "variational bound")
    assert over["flow over a latent"] == ("latent", "ODE estimate")
    assert over["spline flow over a latent"] == ("latent", "importance-weighted bound")
    assert cells["gan"][5] == "" and cells["gan, restores"][1:] == [
        "Grid, Vector",
        "",
        "",
        "",
        "one pass, draws by one each",
        "",
        "",
    ]
    assert cells["diffusion"][7] == "" and cells["diffusion over a latent"][1] == "Tokens"


def test_a_page_keeps_what_stands_around_the_table(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    main([str(file)])
    assert file.read_text() == f"before\n{BEGIN}\n\n{verbs_table()}\n\n{END}\nafter\n" == page(file.read_text())
    with pytest.raises(ValueError, match="no markers"):
        page("nothing")
