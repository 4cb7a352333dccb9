"""The appendix: what it says, and that TeX, where it is installed, compiles it."""

import re
import shutil
import subprocess

import pytest

from reports.page.latex import escape_latex
from reports.page.page import write_report


@pytest.fixture(scope="module")
def appendix(tmp_path_factory, fill, hostile):
    root = tmp_path_factory.mktemp("latex")
    fill(root / "store", methods=("apb", "td3", "zero", hostile), ended={("td3", 1): "failed"})
    # the appendix has no figures
    (path,) = write_report(root / "store", root / "out", formats=["latex"], jobs=0)
    return path


def test_every_special_character_is_literal():
    assert escape_latex("a_b & 50% of $x^2$ {\\}") == (
        r"a\_b \& 50\% of \$x\textasciicircum{}2\$ \{\textbackslash{}\}"
    )
    assert escape_latex("−1.5 ± 2 – 20\u202f000†") == r"$-$1.5 $\pm$ 2 -- 20\,000$^\dagger$"
    assert escape_latex("日本\n\\input{/etc/passwd}") == r"?? \textbackslash{}input\{/etc/passwd\}"


def test_it_holds_the_last_score_of_every_method(appendix, returned):
    lines = appendix.read_text(encoding="utf-8").splitlines()
    apb = next(line for line in lines if line.startswith("apb & "))
    columns = ["id", "ood, angle*", "ood, radius"]
    heads = (
        next(line for line in lines if line.startswith(" & id &"))
        .removesuffix(r" \\")
        .split(" & ")[1:]
    )
    assert heads == columns
    expected = [
        returned("apb", 0.0, 0.5, 200),
        returned("apb", 0.5, 0.5, 200),
        returned("apb", 0.5, 0.5, 200),
    ]
    cells = [cell.replace("$-$", "-") for cell in apb.removesuffix(r" \\").split(" & ")[1:]]
    assert [float(cell.split(" ")[0]) for cell in cells] == pytest.approx(expected, abs=0.05)
    assert all(cell.endswith(r"$\pm$ 0.50") for cell in cells)


def test_what_is_not_finished_is_marked(appendix):
    text = appendix.read_text(encoding="utf-8")
    td3 = next(line for line in text.splitlines() if line.startswith("td3 & "))
    assert td3.count(r"$^\dagger$") == 3 and "Not every planned seed is finished" in text
    assert "Seeds per method: 1 to 2. Fewer than five seeds" in text


def test_a_hostile_name_is_text(appendix):
    text = appendix.read_text(encoding="utf-8")
    assert "\\frac" not in text and re.search(r"evil\\textbar\{\}\\textless\{\}script", text)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_it_compiles_to_a_page_per_suite(appendix):
    command = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        appendix.name,
    ]
    done = subprocess.run(command, cwd=appendix.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Output written on report.pdf (1 page" in done.stdout and "Overfull" not in done.stdout
