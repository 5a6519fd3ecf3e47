"""Words that were replaced by the field's own do not come back."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    *sorted((ROOT / "elman").rglob("*.py")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
]
#: What stands there instead, by what is replaced.
REPLACED = {
    r"\b(TrackForeseer|foreseen?|foresees)\b": "TrackPredictor, predicted",
    r"\b(ToldPictures|told_pictures)\b": "PixelPredictor",
    r"\b(Musician|Hearing|HearingStream)\b": "MusicPredictor, AudioProcessor",
    r"\b(WrittenLanguage|WrittenSequences|TextWriter)\b": (
        "TextGenerator, SequenceGenerator, Seq2SeqPredictor"
    ),
    r"\b(Begun|BackTape|Together|end_all|walk_over)\b": (
        "PendingRun, BackwardBuffers, concurrent, run_all, ragged_layout"
    ),
    r"\b(knobs|compiled_scan\.py|job\.py|replay\.py|runs\.py)\b": "settings, runtime/",
    r"\b(Skipped|Sentences\.fit|Threshold)\b": "SkipLog, TextEncoder, Binarizer",
    r"what may come|\"what came\"|'what came'": "prediction interval, observed",
    r"self\.(hearing|task\.(units|inputs|found))\b|hearing\.json": "audio, processor",
    r"f\"(d_)?(given|own|ring) \{": "initial, reset, double",
    r"numbers a step and row|bytes a step and row|has come so far": (
        "values per step and sequence; until the counter reaches"
    ),
    r"--(average|variational|sampling|known|observed|paths|keep)(?![\w-])": (
        "--ema-decay, --variational-dropout, --scheduled-sampling, --future-covariates, "
        "--past-covariates, --num-samples, --keep-weights"
    ),
}


@pytest.mark.parametrize("pattern", REPLACED)
def test_replaced_words_are_gone(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == [], f"say {REPLACED[pattern]}"
