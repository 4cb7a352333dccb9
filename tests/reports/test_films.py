"""Films in the report: where they are shown, and that names and captions are inert."""

from reports.page.page import write_report
from reports.parts.films import Clip, clips_section

TABLE = ("ood", "quick", "point-goal", "ood")
HOSTILE = "x <script>alert(1)</script> [a](http://x) | *b*"


def test_only_the_clips_of_a_split_are_shown_there():
    mine = Clip(*TABLE, "apb", "", "films/a.webp", "one")
    other = Clip(*TABLE[:3], "id", "apb", "", "films/b.webp", "two")
    text = "\n".join(clips_section([mine, other], TABLE))
    assert (
        "films/a.webp" in text
        and "films/b.webp" not in text
        and text.startswith("##### Before and after")
    )
    assert list(clips_section([other], TABLE)) == []


def test_names_and_captions_are_inert_and_the_page_holds_the_film(tmp_path, fill):
    out = tmp_path / "out"
    (out / "films").mkdir(parents=True)
    (out / "films/a.webp").write_bytes(b"RIFF")
    clips = [Clip(*TABLE, HOSTILE, HOSTILE, "films/a.webp", HOSTILE)]
    (page,) = write_report(fill(tmp_path / "store"), out, formats=["html"], clips=clips)
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text and 'href="http://x"' not in text
    assert "data:image/webp;base64,UklGRg==" in text
