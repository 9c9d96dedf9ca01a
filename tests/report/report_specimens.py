"""Facts of two made-up audits: one as a person would see it, one that attacks the page."""

import base64
import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from divulge.auditing.facts import (
    Bars,
    Card,
    Curve,
    Facts,
    Gallery,
    Histogram,
    Plot,
    Point,
    Scatter,
    Section,
    Table,
    Text,
    Tile,
    Verdict,
)
from divulge.metrics.finding import Finding

RECORDS = 8_000

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "=cmd|' /C calc'!A0",
    "invoice\u202egpj.exe",
    "a" * 300,
    "' onmouseover='alert(3)",
    "</title></style></script><svg onload=alert(4)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(5)",
    "\x1b[31mred\x00\x07",
    "שלום עולם 猫 🧪 e\u0301",
    "\udcff\udcfe undecodable",
    "[red]markup[/red]",
    "]]>&amp;&#x3c;script&#x3e;",
    "",
]


def png(rng: np.random.Generator, *, size: tuple[int, int] = (28, 28)) -> str:
    """A small picture as a data URI."""
    x, y = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]))
    cx, cy = rng.uniform(-0.4, 0.4, 2)
    pixels = np.exp(-4 * ((x - cx) ** 2 + (y - cy) ** 2)) + 0.15 * rng.random(x.shape)
    out = io.BytesIO()
    Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def roc(power: float, *, n: int = 12_500, label: str, role: str = "other", band: bool = False) -> Curve:
    """A made-up ROC curve, from (0, 0) over `n` steps of the false-positive rate."""
    x = np.r_[0, np.unique(np.round(np.geomspace(1, n, 400))) / n]
    y = x**power
    y[:3] = 0  # no member is found at the very left
    width = 1.96 * np.sqrt(y * (1 - y) / n)
    low, high = (np.clip(y - width, 0, 1).tolist(), np.clip(y + width, 0, 1).tolist()) if band else ([], [])
    return Curve(label, x.tolist(), y.tolist(), low, high, role=role)


def finding(
    metric: str, value: float, half: float, *, control: float | None, control_half: float = 0.006, n: int = 25_000
) -> Finding:
    return Finding(
        metric, value, value - half, value + half, n,
        control=None
        if control is None
        else Finding(metric, control, control - control_half, control + control_half, n),
    )  # fmt: skip


def realistic() -> Facts:
    """A realistic audit with every kind of block."""
    rng = np.random.default_rng(0)
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    rates = [0.21, 0.17, 0.42, 0.55, 0.36, 0.44, 0.23, 0.27, 0.18, 0.19]
    chance = np.geomspace(1e-7, 1, 60).tolist()
    bound = [min(1.0, math.exp(6) * x + 1e-5) for x in chance]
    picture = [
        Plot(
            "Members found against outsiders wrongly accused",
            "False-positive rate: outsiders wrongly accused",
            "True-positive rate: members found",
            [
                roc(0.42, label="Shrinkage variance, 4 shadow models", role="main", band=True),
                roc(0.5, label="LiRA online"),
                roc(0.62, label="Attack-R"),
                roc(0.8, label="Loss threshold"),
                roc(0.99, label="Control: a model that saw neither", role="control", band=True),
                Curve("Guessing", chance, chance, role="chance"),
                Curve("Privacy bound, epsilon 6", chance, bound, role="bound"),
            ],
            log=True,
            note="Higher is worse. Both axes are logarithmic: what counts is the left end, where accusations are rare.",
            x_unit="%",
            y_unit="%",
        ),
        Text("At one false accusation in a thousand the strongest attack finds ninety times what a guess would find."),
        Plot(
            "Loss during training", "Epoch", "Cross-entropy, nats",
            [
                Curve("Members", list(range(1, 31)), [2.3 * math.exp(-i / 7) for i in range(30)], role="main"),
                Curve("Non-members", list(range(1, 31)), [1.2 + math.exp(-i / 4) for i in range(30)]),
            ],
            note="The wider the gap, the more is remembered.",
        ),
        Table(
            "Every attack that ran",
            ["Attack", "AUC", "Balanced accuracy", "TPR at 0.1 % FPR", "Shadow models"],
            [
                ["shrinkage variance", 0.752, 0.681, "9.4 % (8.8 to 10.1)", 4],
                ["LiRA online", 0.7312, 0.669, "6.1 % (5.6 to 6.6)", 4],
                ["Attack-R", 0.68, 0.6421, "2.2 % (1.9 to 2.5)", 4],
                ["loss", 0.62, 0.611, "0.2 % (0.1 to 0.3)", 0],
                ["gap", 0.597, None, None, 0],
            ],
            note="Higher is worse.",
        ),
    ]  # fmt: skip
    exposed = [
        Bars(
            "Members found in each class", "%", classes, rates, [r - 0.03 for r in rates], [r + 0.03 for r in rates],
            [1250] * 10, reference=0.01, note="Higher is worse.", measure="True-positive rate at 1 % false positives",
        ),
        Bars(
            "AUC by age of the person", "", ["under 20", "20 to 39", "40 to 59", "60 and over"],
            [0.71, 0.66, 0.52, 0.47], [0.68, 0.63, 0.47, 0.41], [0.74, 0.69, 0.57, 0.53], [410, 1290, 800, 212],
            reference=0.5, measure="AUC",
        ),
        Histogram(
            "Risk of each record", "Score of the strongest attack", np.linspace(-6, 9, 31).round(2).tolist(),
            {
                "Members": np.histogram(rng.normal(2, 2.2, 12_500), np.linspace(-6, 9, 31))[0].tolist(),
                "Non-members": np.histogram(rng.normal(0, 1.6, 12_500), np.linspace(-6, 9, 31))[0].tolist(),
            },
        ),
        Gallery(
            "The most exposed records", ["record"],
            [Tile(f"{classes[i % 10]}, train/{rng.integers(50_000):05d}.png", [png(rng)]) for i in range(10)],
            note="Each of these is called a member without a single false accusation.",
        ),
    ]  # fmt: skip
    rows = Gallery(
        "The most exposed rows", ["record"],
        [Tile(f"member {i}: 0 of 480 outsiders score as high", text="0, 0, 0.375, 0.75, 0.9375, …") for i in range(3)],
    )  # fmt: skip
    inversion = Gallery(
        "What the weights give back: best, median and worst",
        ["original", "reconstruction", "nearest held-out image"],
        [Tile(f"{name}, SSIM {score}", [png(rng), png(rng), png(rng)]) for name, score in
         [("best", 0.81), ("median", 0.44), ("worst", 0.12)]],
    )  # fmt: skip
    points = []
    for name, x, ys in [
        ("no defense", 0.781, (0.75, 0.75, 0.75)), ("dropout 0.5", 0.774, (0.68, 0.69, 0.69)),
        ("dropout and early stopping", 0.752, (0.59, 0.61, 0.61)), ("label only", 0.781, (0.52, 0.66, 0.66)),
        ("top-3, rounded", 0.781, (0.61, 0.74, 0.745)), ("DP-SGD, epsilon 8", 0.63, (0.515, 0.52, 0.52)),
        ("DP-SGD, epsilon 2", 0.55, (0.503, 0.506, 0.506)),
    ]:  # fmt: skip
        for adversary, y in zip(("blind", "adaptive", "oracle"), ys, strict=True):
            points.append(Point(name, adversary, x, x - 0.006, x + 0.006, y, y - 0.012, y + 0.012))
    defenses = Scatter(
        "What each defense costs, and what still leaks", "Test accuracy, higher is better", "AUC, higher is worse",
        points, chosen="dropout and early stopping", x_unit="%",
        note="A defense that only fools the blind adversary rises from circle to diamond.",
    )  # fmt: skip
    return Facts(
        title="CIFAR-10 classifier, two conv blocks",
        date="2025-06-14",
        released="posteriors",
        verdict=Verdict(
            3,
            "Someone who can query this model can pick out about 31 of every 100 training records while wrongly "
            "accusing 1 in 500 outsiders. A guess without the model would catch 0.2.",
            "95 % interval 29 to 33; 12,500 members, 12,500 non-members, 4 shadow models. On a model that saw neither "
            "set, the same attack finds 0.2 of 100.",
            "Train with DP-SGD at epsilon 8 or below. Dropout and early stopping help less than they seem to: see "
            "Defenses.",
        ),
        cards=[
            Card(
                "posteriors", "Who was in the training set?", "shrinkage variance",
                finding("TPR at 0.2% FPR", 0.31, 0.02, control=0.002, control_half=0.001), 1.0,
                {"queries": "25,000", "shadow models": "4", "data": "25,000 alike records", "time": "11 min"},
                "About 31 of every 100 members are found at 1 false accusation in 500.", unit="%",
            ),
            Card(
                "posteriors", "How well are members told from outsiders?", "shrinkage variance",
                finding("AUC", 0.752, 0.006, control=0.501), 1.0, {"queries": "25,000", "shadow models": "4"},
                "A member scores higher than an outsider in 75 of 100 pairs.",
            ),
            Card(
                "weights", "What do training images look like?", "", None, 1.0, {},
                "The weights were not given: pass the module itself to try this.",
            ),
        ],
        sections=[
            Section("The picture", "How many members are found, and at what price in false accusations?", picture),
            Section("Reconstructions", "What do the records look like?", [inversion]),
            Section("Who is exposed", "Is the risk the same for everyone?", [*exposed, rows], exports=True),
            Section("Defenses", "What would help, and what would it cost?", [defenses]),
            Section(
                "What epsilon promises", "What can no attack do?",
                [Text("No attack can find more than 9 members for each outsider it accuses."),
                 Table("Bounds on epsilon", ["Bound", "Epsilon", "Delta"],
                       [["promised by the ledger", 2.2, "1e-5"], ["measured, at least", 1.31, "1e-5"]])],
            ),
        ],
        settings={
            "divulge": "0.1.0", "torch": "2.13.0", "seed": "0", "budget": "standard", "members": "12,500",
            "model": "cnn(widths=(32, 64), hidden=128)", "weights": "sha256 3f1c…9ab2",
        },
        assumptions=["The adversary has 25,000 records of the same kind.", "Every query is answered in full."],
        not_tested=["Attacks that change the training data.", "Releases other than posteriors."],
        references=["Carlini et al. 2022, Membership Inference Attacks From First Principles, arXiv 2112.03570."],
        command="divulge audit --model my.py:build --weights w.safetensors --members train/ --nonmembers test/",
        records={
            "record": [f"train/{i:05d}.png" for i in range(RECORDS)],
            "class": [classes[i % 10] for i in range(RECORDS)],
            "score": rng.normal(1, 2, RECORDS).round(4).tolist(),
            "member": [i < RECORDS // 2 for i in range(RECORDS)],
        },
        promise="Epsilon is at most 2.2 at delta 1e-5 by the ledger, and at least 1.31 by the attack shrinkage.",
    )  # fmt: skip


def attacking() -> Facts:
    """An audit whose names are attacks and whose lists are as empty and narrow as can be."""
    n = len(HOSTILE)
    rng = np.random.default_rng(1)
    name: Callable[[int], str] = lambda i: HOSTILE[i % n]  # noqa: E731
    curves = [Curve(name(i), [0.01], [0.5], [0.5], [0.5], role="main" if i == 0 else "other") for i in range(n)]
    blocks = [
        *[Text(text) for text in HOSTILE],
        Plot(name(0), name(1), name(4), curves, log=True),
        Plot(name(0), name(6), name(5), [], log=True),
        Plot(name(0), name(6), name(5), [Curve(name(9), [], [])]),
        Plot("one point", "x", "y", [Curve("flat", [3.0], [3.0])]),
        Plot("zeros", "x", "y", [Curve("zero", [0.0, 0.0, 1.0], [0.0, 0.0, 0.0])], log=True),
        Plot("constant", "x", "y", [Curve("flat", [1.0, 2.0], [-5.0, -5.0], [-5.0, -5.0], [-5.0, -5.0])]),
        Bars(name(4), name(6), HOSTILE, [0.5] * n, [0.5] * n, [0.5] * n, [0] * n, reference=0.5, note=name(1)),
        Bars(name(1), "", [], [], [], [], []),
        Bars("many", "%", [f"class {i} {name(4)}" for i in range(100)], [i / 100 for i in range(100)],
             [0.0] * 100, [1.0] * 100, [1] * 100),
        Histogram(name(1), name(6), [0.0, 1e-9], {text: [7] for text in HOSTILE}),
        Histogram("none", "x", [0.0], {}),
        Histogram("empty bins", "x", [0.0, 1.0, 2.0], {"a": [0, 0]}),
        Gallery(name(1), [name(0)], [Tile(text, [png(rng)], text) for text in HOSTILE], note=name(5)),
        Gallery("none", [], []),
        Table(name(4), [*HOSTILE[:6]], [[text, 1.5, None, -3, text, 1e-9] for text in HOSTILE], note=name(0)),
        Table("none", [], []),
        Scatter(name(1), name(0), name(4),
                [Point(text, text, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5) for text in HOSTILE], chosen=name(1)),
        Scatter("none", "x", "y", []),
    ]  # fmt: skip
    return Facts(
        title=name(6),
        date='2025-06-14"><script>alert(6)</script>',
        released=name(1),
        verdict=Verdict(0, name(0), name(1), name(4)),
        cards=[
            Card(name(3), name(0), name(1), Finding(name(4), 0.5, 0.5, 0.5, 0), 1.0,
                 dict(zip(HOSTILE, HOSTILE, strict=True)), name(6)),
            Card(name(3), name(1), name(1), finding("AUC", 0.5, 0.0, control=0.5, control_half=0.0),
                 0.5, {}, name(6), unit=name(0)),
            Card(name(3), name(1), "", None, 1.0, {}, name(6)),
        ],
        sections=[Section(name(0), name(1), blocks, exports=True), Section(name(10), "", [])],
        settings=dict(zip(HOSTILE, reversed(HOSTILE), strict=True)),
        assumptions=HOSTILE,
        not_tested=[],
        references=HOSTILE,
        command=name(1),
        records={name(2): HOSTILE, "score": [float(i) for i in range(n)]},
        promise=name(5),
    )  # fmt: skip
