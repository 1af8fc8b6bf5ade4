"""What can be wrong with `--train-with`, one row each."""
# ruff: noqa: E501 - a row is a line

from __future__ import annotations

from tests.cli.mistake import DATA, TARGET, WEIGHTS, Mistake, examine, write

HEAD = "import sys\nimport torch\nfrom torch import nn\n"


def training(
    name: str,
    body: str,
    pattern: str,
    reference: str = "fit.py:train",
    argument: str = "--train-with",
    target: str = TARGET[0],
    code: int = 2,
) -> Mistake:
    """A training function whose file is `body`."""
    words = examine(*WEIGHTS, *DATA, "--train-with", reference, target=target)
    return Mistake(
        f"training: {name}", words, argument, pattern, write("fit.py", HEAD + body), code
    )


GOOD = "def train(model, inputs, targets):\n    pass\n"
NETWORK = "net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))\n"
MISTAKES = (
    training("no file", GOOD, "no file 'fti.py'.*did you mean 'fit.py'", "fti.py:train"),
    training("no name", GOOD, r"without a name .it defines train", "fit.py"),
    training("absent name", GOOD, "no name 'tarin'.*did you mean 'train'", "fit.py:tarin"),
    training("a word", GOOD, "'later'; wanted a reference|'later'", "later"),
    training("a number", "train = 3\n", "train in 'fit.py', a int; wanted a function train"),
    training("a network", NETWORK + "train = net\n", "wanted a function train"),
    training("one argument", "def train(model):\n    pass\n", r"train.model.; wanted a function train.model, inputs, targets."),
    training("four arguments", "def train(model, inputs, targets, epochs):\n    pass\n", "epochs.*wanted a function train"),
    training("nothing by position", "def train(*, model, inputs, targets):\n    pass\n", "wanted a function train"),
    training("syntax", "def train(:\n", "syntax error in line 4"),
    training("import", "import no_such_thing\n" + GOOD, "importing 'no_such_thing'"),
    training("leaves at import", "sys.exit(0)\n" + GOOD, "calling sys.exit"),
    training("an instance as target", GOOD + NETWORK, "net in 'fit.py', which is a Sequential; wanted TARGET to name a function", target="fit.py:net"),
    Mistake("training: exported target", examine(*DATA, "--train-with", "fit.py:train", target="nowhere.pt2"), "TARGET", "no file 'nowhere.pt2'", write("fit.py", GOOD)),
    Mistake("training: beside a built-in", examine("--train-with", "fit.py:train", target="digits-mlp"), "--train-with", "brings its own", write("fit.py", GOOD)),
    Mistake("training: no value", (*examine(*WEIGHTS, *DATA)[:-2], "--train-with"), "--train-with", "no value"),
    Mistake("training: named by a configuration", examine(*WEIGHTS, *DATA, "--config", "c.toml"), "--train-with", "code never runs because a file names it", write("c.toml", 'train_with = "evil.py:train"\n')),
)  # fmt: skip

FAILING = {
    "raises": ("def train(model, inputs, targets):\n    raise RuntimeError('no luck \\x1b[31mtoday')\n", r"raising RuntimeError: no luck \\x1b\[31mtoday .line 5 of 'fit.py'"),
    "leaves": ("def train(model, inputs, targets):\n    sys.exit(0)\n", "calling sys.exit .line 5"),
    "leaves NaN": ("def train(model, inputs, targets):\n    model[0].weight.data.fill_(float('nan'))\n", "weights that are not finite"),
    "returns a number": ("def train(model, inputs, targets):\n    return 3\n", "train.. returning int; wanted"),
    "returns another network": ("def train(model, inputs, targets):\n    return nn.Linear(4, 3)\n", "returning a network of other parameters; wanted"),
}  # fmt: skip
"""What is found only when training runs: body of the file, and what is said."""
