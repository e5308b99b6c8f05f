"""What is drawn without a screen: the card to scale, wrapped words, and which panes have a place."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from gpuwatch.faces.tui.card import card_rows
from gpuwatch.faces.tui.layout import PANES, arrange
from gpuwatch.faces.tui.paint import width_of, wrapped


def test_the_card_is_drawn_to_scale_with_the_request_past_its_end() -> None:
    gib = 1 << 30
    facts = {
        "total_bytes": 6 * gib, "free_bytes": gib, "tried_bytes": 2 * gib, "allocated_bytes": 3 * gib,
        "reserved_unallocated_bytes": gib, "process_in_use_bytes": 9 * gib // 2,
    }  # fmt: skip
    drawn, asked, *rest = ["".join(words for words, _ in line.spans) for line in card_rows(facts, 100)]
    cells = drawn.strip().rstrip("▏")
    assert len(cells) == round(6 / 7 * 72)
    assert cells.count("█") == pytest.approx(len(cells) / 2, abs=1)
    assert asked.index("━") == pytest.approx(3 + 5 / 7 * 72, abs=1)
    assert "asked for 2.00 GiB" in asked + rest[0]
    assert "free 1.00 GiB" in "".join(rest)
    assert card_rows({"total_bytes": 6 * gib}, 100) == []
    assert all(width_of(line.spans) <= 40 for line in card_rows(facts, 40))


@pytest.mark.parametrize("width", [2, 7, 20, 33])
def test_wrapped_words_fit_and_lose_nothing(width: int) -> None:
    words = "DDColor 在 model_input_size 1280 需要约 7.14 GiB；显卡共有 5.79 GiB。 a_very_long_word_without_a_space_in_it 🖼 done"
    lines = wrapped(words, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(words.split())


def test_the_pane_that_is_looked_at_is_always_in_view() -> None:
    for width in (10, 50, 90, 120, 200):
        for height in (3, 14, 24, 45):
            for pane in PANES:
                for zoomed in (False, True):
                    assert pane in arrange(width, height, pane, zoomed=zoomed, calm=False).panes
