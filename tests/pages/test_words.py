"""Foreign words: visible, cut, escaped, and only then marked."""

from __future__ import annotations

from whynet.pages.words import duration, marked, plain, unbroken, visible


def test_words_are_escaped_before_they_are_marked() -> None:
    assert marked("**a<b** `c&d` 5 %") == ("<strong>a&lt;b</strong> <code>c&amp;d</code> 5\u00a0%")
    assert marked("**see `x`**") == "<strong>see <code>x</code></strong>"
    assert marked("2 ** 3 ** 4 and ` alone") == "2 ** 3 ** 4 and ` alone".replace(
        "** 3 **", "<strong> 3 </strong>"
    )
    assert unbroken("a --b=<c>") == "<span>a</span> <span>--b=&lt;c&gt;</span>"


def test_hidden_characters_become_visible_and_stacks_are_cut() -> None:
    assert visible("a\u200bb\u00adc\ufeff\U000e0041") == "a\\u200bb\\xadc\\ufeff\\U000e0041"
    assert visible("z" + "\u0301" * 500) == "z" + "\u0301" * 3 + "…"
    assert visible("naïve 汉字 שלום 🙂") == "naïve 汉字 שלום 🙂"
    assert plain("a\x1b]0;title\x07b\x1b[2Jc\u202ed\nnew") == "abcd new"


def test_durations_round_as_a_reader_would() -> None:
    assert [duration(s) for s in (0, 9.94, 9.96, 59.6, 119.7, 3599.9)] == [
        "under 0.1 s",
        "9.9 s",
        "10 s",
        "1 min 0 s",
        "2 min 0 s",
        "1 h 0 min",
    ]
