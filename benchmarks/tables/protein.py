"""Secondary structure of proteins: helix, sheet or coil for each residue, from the sequence alone.

    python benchmarks/tables/protein.py --data ../shared/data

Train and test files of Qian & Sejnowski 1988. The training file holds families of like proteins,
some of them twice, of which the test file has hardly one. So whole families are held out to choose
the weights (proteins that share a twentieth of their runs of four residues): on proteins drawn at
random a network is rewarded for what it knows by heart. The test file is read once.
"""

from pathlib import Path

from common import Options, Row, parsed, percent, report, tested, train

from elman.data.files import write_text
from elman.data.tagged import TaggedSentence, tagged_sentences

RECIPE = (
    "--cell gru --hidden 8 --embedding 16 --no-characters --window 15 --dropout 0.2 "
    "--word-dropout 0.3 --weight-decay 1.0 --average 0.99 --learning-rate 0.01 --batch-size 8 "
    "--epochs 60"
)
#: Share of the training residues that is held out, and what makes two proteins like each other.
HELD_OUT, RUN, SHARED = 0.15, 4, 0.05


def families(proteins: list[TaggedSentence]) -> list[int]:
    """For each protein the first one of its family."""
    runs = [
        {"".join(p.words[i : i + RUN]) for i in range(len(p.words) - RUN + 1)} for p in proteins
    ]
    first = list(range(len(proteins)))
    for i, mine in enumerate(runs):
        for j, theirs in enumerate(runs[:i]):
            if len(mine & theirs) > SHARED * max(1, min(len(mine), len(theirs))):
                old, new = sorted((first[i], first[j]), reverse=True)
                first = [new if family == old else family for family in first]
    return first


def prepared(options: Options) -> tuple[Path, Path]:
    """The files to train on and to validate on."""
    file = options.data / "protein" / "protein-secondary-structure.train"
    proteins = list(tagged_sentences([file]))
    family = families(proteins)
    most = HELD_OUT * sum(len(p.words) for p in proteins)
    held: set[int] = set()
    # From the last family on; the largest come early.
    for number in sorted(set(family), reverse=True):
        if sum(len(p.words) for p, f in zip(proteins, family, strict=True) if f in held) < most:
            held.add(number)
    parts: dict[str, list[str]] = {"train": [], "valid": []}
    for protein, number in zip(proteins, family, strict=True):
        lines = [f"{w} {t}\n" for w, t in zip(protein.words, protein.tags, strict=True)]
        parts["valid" if number in held else "train"].append("".join(lines))
    files = {part: options.work / f"{part}.conll" for part in parts}
    for part, written in parts.items():
        write_text(files[part], "\n".join(written))
    return files["train"], files["valid"]


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("protein", __doc__)
    test = options.data / "protein" / "protein-secondary-structure.test"
    chosen, held_out = prepared(options)
    files = [chosen, "--valid", held_out, "--test", test]
    done = [train(options, "tag", files, RECIPE, f"seed{seed}", seed) for seed in options.seeds]
    beside = tested(done[0])["baseline"]
    row = Row(
        "Q3, accuracy",
        [tested(t)["accuracy"] for t in done],
        "64.3 (two feed-forward networks, Qian & Sejnowski 1988)",
        f"62.2 (window-17 logistic), {percent(beside['accuracy'])} ({beside['name']})",
        percent=True,
    )
    report(options, "protein secondary structure, test", [row], [t.seconds for t in done])


if __name__ == "__main__":
    main()
