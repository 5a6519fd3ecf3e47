"""Secondary structure of proteins: helix, sheet or coil for each residue, from the sequence alone.

    python benchmarks/tables/protein.py --data ../shared/data

Train and test files of Qian & Sejnowski 1988. The training file holds families of like proteins,
some of them twice, of which the test file has hardly one. On proteins drawn at random a network is
rewarded for what it knows by heart, so the recipe was found with whole families held out, a fifth
of the residues in turn (`--only families`): proteins are like that share a twentieth of their runs
of four residues. With it the networks learn from all of the training file but one family, and the
test file is read once. The last row is of the mean of their probabilities.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

import torch
from common import Options, Row, Training, measured, parsed, percent, report, tested, train

import elman
from elman.data.core.files import write_text
from elman.data.text.tagged import TaggedSentence, tagged_sentences

RECIPE = (
    "--cell gru --layers 2 --hidden 8 --embedding 16 --no-characters --window 15 "
    "--global-context --pooling mean --dropout 0.2 --word-dropout 0.3 --weight-decay 1.0 "
    "--ema-decay 0.99 --learning-rate 0.01 --batch-size 8 --epochs 60 --keep-weights last"
)
FOLDS = 5
#: What makes two proteins like each other: the share of their runs of so many residues.
RUN, SHARED = 4, 0.05
PUBLISHED = "64.3 (two feed-forward networks, Qian & Sejnowski 1988)"


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


def folds(sizes: dict[int, int]) -> list[set[int]]:
    """Families in as many parts, of about as many residues each; sizes: residues by family."""
    parts: list[set[int]] = [set() for _ in range(FOLDS)]
    for number in sorted(sizes, key=lambda n: (-sizes[n], n)):
        min(parts, key=lambda part: sum(sizes[n] for n in part)).add(number)
    return parts


class Proteins:
    """The training file, and parts of it with some families held out."""

    def __init__(self, options: Options) -> None:
        self.options = options
        file = options.data / "protein" / "protein-secondary-structure.train"
        self.proteins = list(tagged_sentences([file]))
        self.family = families(self.proteins)
        self.sizes = dict.fromkeys(self.family, 0)
        for protein, number in zip(self.proteins, self.family, strict=True):
            self.sizes[number] += len(protein.words)

    def without(self, held: Collection[int], name: str) -> list[str | Path]:
        """What `elman train` is given to learn from the other families and validate on these."""
        files = []
        for part in ("train", "valid"):
            chosen = (
                protein
                for protein, family in zip(self.proteins, self.family, strict=True)
                if (family in held) == (part == "valid")
            )
            files.append(self.options.work / f"{name}.{part}.conll")
            write_text(files[-1], "\n".join(map(_conll, chosen)))
        return [files[0], "--valid", files[1]]


def _conll(protein: TaggedSentence) -> str:
    return "".join(f"{w} {t}\n" for w, t in zip(protein.words, protein.tags, strict=True))


def together(trainings: Iterable[Training], test: Path) -> float:
    """The accuracy of the mean of the probabilities that several networks give."""
    proteins = list(tagged_sentences([test]))
    networks = [elman.load(t.folder) for t in trainings]
    given = [list(n.probabilities(p.words for p in proteins)) for n in networks]
    right = count = 0
    for protein, *shares in zip(proteins, *given, strict=True):
        best = torch.stack(shares).mean(dim=0).argmax(dim=-1).tolist()
        names = [networks[0].tags[k] for k in best]
        right += sum(a == b for a, b in zip(names, protein.tags, strict=True))
        count += len(names)
    return right / count


def on_families(options: Options, known: Proteins) -> tuple[list[Row], list[float]]:
    """A row of families held out in turn, and the seconds of each training."""
    values, seconds = [], []
    parts = [
        (known.without(held, f"fold{fold}"), sum(known.sizes[n] for n in held))
        for fold, held in enumerate(folds(known.sizes))
    ]
    for seed in options.seeds:
        right = 0.0
        for fold, (files, size) in enumerate(parts):
            done = train(options, "tag", files, RECIPE, f"seed{seed}-fold{fold}", seed)
            right += size * done.scores["accuracy"]
            seconds.append(done.seconds)
        values.append(right / sum(known.sizes.values()))
    row = Row("families held out", values, "", "61.6 (window-17 logistic)", percent=True)
    return [row], seconds


def on_test(options: Options, known: Proteins) -> tuple[list[Row], list[float]]:
    """The rows of the test file, and the seconds of each training."""
    test = options.data / "protein" / "protein-secondary-structure.test"
    files = [*known.without({known.family[-1]}, "all"), "--test", test]
    done = [train(options, "tag", files, RECIPE, f"seed{seed}", seed) for seed in options.seeds]
    beside = tested(done[0])["baseline"]
    trivial = f"62.2 (window-17 logistic), {percent(beside['accuracy'])} ({beside['name']})"
    rows = [
        Row("Q3, test", [tested(t)["accuracy"] for t in done], PUBLISHED, trivial, percent=True),
        Row(f"mean of {len(done)} networks", [together(done, test)], PUBLISHED, percent=True),
    ]
    return rows, [t.seconds for t in done]


MODELS = (("families", on_families), ("test", on_test))


def main() -> None:
    """Train for each seed, print the table."""
    options = parsed("protein", __doc__, seeds=range(5), only=[name for name, _ in MODELS])
    known = Proteins(options)
    rows, seconds = measured(options, MODELS, known)
    report(options, "protein secondary structure", rows, seconds)


if __name__ == "__main__":
    main()
