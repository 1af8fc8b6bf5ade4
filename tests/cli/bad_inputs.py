"""One row a mistake: what is on the command line, and the sentence that answers it."""
# ruff: noqa: E501 - a row is a line

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tests.cli import bad_networks, bad_regions, bad_training
from tests.cli.mistake import (
    BAD_WEIGHTS,
    DATA,
    GOOD_X,
    GOOD_Y,
    NAN_X,
    WEIGHTS,
    Mistake,
    arrays,
    examine,
    own,
    tested,
    weights,
    write,
)
from tests.cli.own import OWN

NETWORK = (
    Mistake("no such file", examine(target="modle.py:build"), "--test", "neither"),
    Mistake("no file", examine(*DATA, target="modle.py:build"), "TARGET", "no file 'modle.py'.*did you mean"),
    Mistake("no name", examine(*DATA, target="model.py"), "TARGET", r"without a name \(it defines build\(\)"),
    Mistake("absent name", examine(*DATA, target="model.py:biuld"), "TARGET", "no name 'biuld'.*did you mean 'build'"),
    Mistake("raises", examine(*DATA, target="model.py:raises"), "TARGET", r"raising RuntimeError: no luck \\x1b\[31mtoday"),
    Mistake("needs arguments", examine(*DATA, target="model.py:needs"), "TARGET", "needs the arguments width"),
    Mistake("a class", examine(*DATA, target="model.py:a_class"), "TARGET", "wanted"),
    Mistake("no network", examine(*DATA, target="model.py:Plain"), "TARGET", "wanted"),
    Mistake("nothing", examine(*DATA, target="model.py:nothing"), "TARGET", "wanted"),
    Mistake("sys.exit", examine(*DATA, target="model.py:leaves"), "TARGET", "calling sys.exit"),
    Mistake("syntax", examine(*DATA, target="broken.py:f"), "TARGET", "syntax error in line 1", write("broken.py", "def f(:\n")),
    Mistake("import", examine(*DATA, target="lacks.py:f"), "TARGET", "importing 'no_such_thing'", write("lacks.py", "import no_such_thing\n")),
    Mistake("unknown built-in", examine(target="digits-mpl"), "TARGET", "did you mean 'digits-mlp'"),
    Mistake("empty target", examine(target=""), "TARGET", "wanted file.py:name"),
    Mistake("a state dict as target", examine(*DATA, target="end.pt"), "TARGET", "wanted"),
    Mistake("no module", examine(*DATA, target="no_such.module:f"), "TARGET", "no module"),
    Mistake("no .pt2", examine(*DATA, target="nowhere.pt2"), "TARGET", "no file 'nowhere.pt2'"),
    Mistake("a .pt2 of text", examine(*DATA, target="text.pt2"), "TARGET", "wanted", write("text.pt2", "hello")),
    Mistake("structured output", examine(*DATA, target="model.py:entries"), "--output", "2 tensors.*logits"),
    Mistake("no such entry", examine(*DATA, "--output", "probs", target="model.py:entries"), "--output", "'probs'.*hidden.*logits"),
    Mistake("data for a built-in", examine(*DATA, target="digits-mlp"), "--train", "brings its own"),
    Mistake("loss for a built-in", examine("--loss", "mse", target="digits-mlp"), "--loss", "brings its own"),
)  # fmt: skip

STATES = (
    Mistake("no weights", examine("--weights", "nowhere.pt", *DATA), "--weights", "no file 'nowhere.pt'"),
    Mistake("misspelled weights", examine("--weights", "edn.safetensors", *DATA), "--weights", "did you mean 'end.safetensors'"),
    Mistake("weights missing", examine(*BAD_WEIGHTS), "--weights", "1 tensors missing.*2.bias", weights(lambda s: s.pop("2.bias"))),
    Mistake("weights of another shape", examine(*BAD_WEIGHTS), "--weights", "of shape", weights(lambda s: s.update({"2.bias": torch.zeros(4)}))),
    Mistake("NaN weights", examine(*BAD_WEIGHTS), "--weights", "1 of 3 values NaN", weights(lambda s: s["2.bias"][0].fill_(float("nan")))),
    Mistake("text weights", examine("--weights", "w.pt", *DATA), "--weights", "a text file", write("w.pt", "hello\n")),
    Mistake("empty weights", examine("--weights", "w.pt", *DATA), "--weights", "an empty file", write("w.pt", "")),
    Mistake("pickled network", examine("--weights", "w.pt", *DATA), "--weights", "wanted", lambda: torch.save(torch.nn.Linear(2, 2), "w.pt")),
    Mistake("bare pickle", examine("--weights", "w.pkl", *DATA), "--weights", "bare pickle", lambda: Path("w.pkl").write_bytes(b"\x80\x04K\x01.")),
    Mistake("a folder as weights", examine("--weights", ".", *DATA), "--weights", "the folder"),
    Mistake("no initial weights", own("--init-weights", "nowhere.pt"), "--init-weights", "no file"),
    Mistake("other initial weights", own("--init-weights", "bad.safetensors"), "--init-weights", "missing", weights(lambda s: s.pop("0.bias"))),
    Mistake("weights that do not fit a built-in", examine("--weights", "end.safetensors", target="digits-mlp"), "--weights", "wanted"),
)  # fmt: skip

ROWS = (
    Mistake("no data at all", examine(*WEIGHTS), "--test", "neither training nor test data"),
    Mistake("no file of data", tested("tset.npz"), "--test", "no file 'tset.npz'.*did you mean 'test.npz'"),
    Mistake("unknown suffix", tested("data.xyz"), "--test", "wanted", write("data.xyz", "1")),
    Mistake("damaged npz", tested("bad.npz"), "--test", "wanted", write("bad.npz", "hello")),
    Mistake("empty", tested("bad.npz"), "--test", "wanted", arrays(np.zeros((0, 4)), np.zeros(0, int))),
    Mistake("NaN rows", tested("bad.npz"), "--test", "NaN", arrays(NAN_X, GOOD_Y)),
    Mistake("feature shape", tested("bad.npz"), "--test", r"rows of shape \[3\].*wanted rows that a network accepts whose first layer \(Linear\) takes 4 features", arrays(GOOD_X[:, :3], GOOD_Y)),
    Mistake("labels out of range", tested("bad.npz"), "--test", "labels from 1 to 3.*wanted labels 0 to 2", arrays(GOOD_X, GOOD_Y + 1)),
    Mistake("float labels", tested("bad.npz"), "--test", "labels of dtype torch.float32.*wanted integer labels", arrays(GOOD_X, GOOD_Y + 0.5)),
    Mistake("other length", tested("bad.npz"), "--test", "20.*19|19.*20", arrays(GOOD_X, GOOD_Y[:-1])),
    Mistake("objects", tested("x.npy,y.npy"), "--test", "wanted", lambda: (np.save("x.npy", np.array([{}, {}])), np.save("y.npy", GOOD_Y))),
    Mistake("table without target", tested("t.csv"), "--target", "wanted", write("t.csv", "a,b\n1,2\n")),
    Mistake("no such column", tested("t.csv", "--target", "lable"), "--target", "did you mean 'label'", write("t.csv", "a,label\n1,0\n2,1\n")),
    Mistake("words in a table", tested("t.csv", "--target", "label"), "--test", "wanted", write("t.csv", "a,b,c,d,label\n1,2,x,4,0\n")),
    Mistake("no name in the code of data", tested("model.py:mk_data"), "--test", "did you mean 'make_data'"),
    Mistake("code that returns no data", tested("model.py:nothing"), "--test", "wanted"),
    Mistake("unknown loss", own("--loss", "cross_entopy"), "--loss", "did you mean 'cross_entropy'"),
    Mistake("one column of labels", tested("bad.npz"), "--test", r"targets of shape \[8, 1\] for outputs of shape \[8, 3\]", arrays(GOOD_X, GOOD_Y[:, None])),
    Mistake("no label scored", tested("bad.npz"), "--test", "all -100", arrays(GOOD_X, GOOD_Y * 0 - 100)),
    Mistake("no probabilities", tested("bad.npz"), "--test", "probabilities that sum to 1", arrays(GOOD_X, np.ones((20, 3)))),
    Mistake("mse of labels", tested("bad.npz", "--loss", "mse"), "--test", "one target an output entry", arrays(GOOD_X, GOOD_Y)),
    Mistake("cross-entropy of one logit", examine("--test", "bad.npz", target="own.py:build"), "--loss", "bce where there is one logit", lambda: (
        write("own.py", "from torch import nn\ndef build():\n    return nn.Linear(4, 1)\n")(), arrays(GOOD_X, GOOD_Y)())),
    Mistake("test rows unlike training rows", own("--test", "bad.npz"), "--test", r"rows of shape \[3\]", arrays(GOOD_X[:, :3], GOOD_Y)),
    Mistake("semicolons", tested("t.csv", "--target", "label"), "--test", "semicolons", write("t.csv", "a;b;label\n1,5;2;0\n")),
    Mistake("missing cell", tested("t.csv", "--target", "label"), "--test", "a missing cell", write("t.csv", "a,b,c,d,label\n1,,3,4,0\n")),
    Mistake("decimal comma", tested("t.csv", "--target", "label"), "--test", "decimal comma", write("t.csv", 'a,b,c,d,label\n"1,5",2,3,4,0\n')),
    Mistake("a compressed table", tested("t.csv.gz"), "--test", "unknown kind '.gz'", write("t.csv.gz", "x")),
    Mistake("numbers too large", tested("bad.npz"), "--test", r"numbers up to .*e.300 in size", arrays(GOOD_X.astype(float) * 1e300, GOOD_Y)),
    Mistake("a loss that is none", own("--loss", "model.py:nothing"), "--loss", "wanted"),
)  # fmt: skip

OPTIONS = (
    Mistake("unknown option", own("--bugdet", "3s"), "--bugdet", "unknown option.*did you mean --budget"),
    Mistake("unknown command", ("exmine", "x"), "COMMAND", "did you mean 'examine'"),
    Mistake("no command", ("--bugdet",), "--bugdet", "unknown option"),
    Mistake("one word too many", own("more.py:f"), "more.py:f", "one argument too many"),
    Mistake("no target", ("examine",), "TARGET", "nothing; wanted a value"),
    Mistake("no value", own("--budget"), "--budget", "no value"),
    Mistake("no integer", own("--seed", "one"), "--seed", "'one'; wanted a whole number"),
    Mistake("huge integer", own("--seed", "9" * 30), "--seed", "wanted a whole number from 0"),
    Mistake("too many digits", own("--seed", "9" * 5000), "--seed", "wanted a whole number"),
    Mistake("batch size 0", own("--batch-size", "0"), "--batch-size", "0; wanted a whole number from 1"),
    Mistake("batch size 2.5", own("--batch-size", "2.5"), "--batch-size", "'2.5'; wanted a whole number"),
    Mistake("negative seed", own("--seed", "-1"), "--seed", "-1; wanted a whole number from 0"),
    Mistake("batch size 2^62", own("--batch-size", str(2**62)), "--batch-size", "wanted a whole number from 1 to 2"),
    Mistake("no threads", own("--threads", "0"), "--threads", "0; wanted a whole number from 1"),
    Mistake("no such card", own("--device", "cuda:99"), "--device", "'cuda:99'.*wanted a device"),
    Mistake("negative seeds", own("--seeds=-1"), "--seeds", "-1; wanted"),
    Mistake("tiny memory", own("--memory", "100"), "--memory", "wanted at least"),
    Mistake("garbage memory", own("--memory", "lots"), "--memory", "'lots'; wanted an amount of memory"),
    Mistake("garbage budget", own("--budget", "5 apples"), "--budget", "'5 apples'; wanted a duration"),
    Mistake("no budget", own("--budget", "0s"), "--budget", "'0s'"),
    Mistake("negative budget", own("--budget=-5s"), "--budget", "'-5s'"),
    Mistake("device", own("--device", "quantum"), "--device", "'quantum'.*wanted a device"),
    Mistake("dtype", own("--dtype", "half"), "--dtype", "'half'; wanted one of float32, float64"),
    Mistake("malformed condition", own("--fail-on", "accuracy is bad"), "--fail-on", "wanted a condition"),
    Mistake("infinite condition", own("--fail-on", "test_accuracy < inf"), "--fail-on", "wanted a condition"),
    Mistake("condition on nothing", own("--fail-on", "accuracy < 0.9"), "--fail-on", "'accuracy' of nothing that runs"),
    Mistake("condition on no instrument", own("--fail-on", "fitt.accuracy.test < 0.9"), "--fail-on", r"did you mean fit\."),
    Mistake("condition on what does not run", own("--only", "fit", "--fail-on", "margins.x < 1"), "--fail-on", r"wanted .*fit\."),
    Mistake("only unknown", own("--only", "fti"), "--only", "'fti'.*did you mean 'fit'"),
    Mistake("skip unknown", own("--skip", "fti"), "--skip", "'fti'.*did you mean 'fit'"),
    Mistake("nothing left", own("--only", "fit", "--skip", "fit"), "--skip", "leaves a question"),
    Mistake("no question from it", own("--only", "baselines"), "--only", "leaves a question"),
    Mistake("unknown instrument", ("measure", "fitt", *OWN), "INSTRUMENT", "did you mean 'fit'"),
    Mistake("no rounds", ("measure", "fit", *OWN, "--rounds", "0"), "--rounds", "0; wanted a whole number from 1 to 1"),
    Mistake("too many rounds", ("measure", "fit", *OWN, "--rounds", "2"), "--rounds", "2; wanted"),
    Mistake("bytes that are no text", own("--target", os.fsdecode(b"caf\xe9")), "--target", "no text; wanted UTF-8"),
)  # fmt: skip


def config(text: str) -> tuple[Callable[[], object], tuple[str, ...]]:
    return write("c.toml", text), own("--config", "c.toml")


def _config(
    name: str, text: str, pattern: str, argument: str = "--config", code: int = 2
) -> Mistake:
    prepare, words = config(text)
    return Mistake(name, words, argument, pattern, prepare, code)


FILES = (
    Mistake("no configuration", own("--config", "c.toml"), "--config", "no file 'c.toml'"),
    Mistake("a folder as configuration", own("--config", "."), "--config", "unreadable"),
    Mistake("endless configuration", own("--config", "/dev/zero"), "--config", "more than 1 MiB"),
    Mistake("bytes as configuration", own("--config", "test.npz"), "--config", "no UTF-8 text"),
    _config("unknown key", "batch_sise = 3\n", "unknown key 'batch_sise'.*did you mean 'batch_size'"),
    _config("no TOML", "seed = = 3\n", "no TOML"),
    _config("a tag of YAML", "seed: !!python/object/apply:os.system ['touch marker']\n", "no TOML"),
    _config("bombs of YAML", "a: &a [x, x]\nb: &b [*a, *a]\nseed: *b\n", "no TOML"),
    _config("a key twice", "seed = 1\nseed = 2\n", "no TOML.*overwrite"),
    _config("a float for a number", "seed = 1e-3\n", "seed = 0.001; wanted a value of type int"),
    _config("not a number", "batch_size = nan\n", "batch_size = nan; wanted a value of type int"),
    _config("too deep", "seed = " + "[" * 3000 + "]" * 3000, "no TOML|with a list"),
    _config("deep keys", "rounds" + ".a" * 5000 + " = 1\n", "rounds with a dict"),
    _config("long number", "seed = " + "9" * 5000, "no TOML"),
    _config("long hexadecimal number", "seed = 0x" + "f" * 9000, "seed with a int"),
    _config("another type", 'seed = "1"\n', "seed = '1'; wanted a value of type int"),
    _config("true is no number", "seed = true\n", "seed = True; wanted a value of type int"),
    _config("a word for a list", 'only = "fit"\n', "only = 'fit'; wanted a list"),
    _config("rounds of nothing", "[rounds]\nfti = 1\n", "'fti'.*did you mean 'fit'", "--rounds"),
    _config("impossible rounds", "[rounds]\nfit = 3\n", "3 of fit; wanted a whole number from 1 to 1", "--rounds"),
    _config("out of range", "batch_size = 0\n", "wanted a whole number from 1", "--batch-size"),
    _config("another target", 'target = "other.py:f"\n', "as --config has it", "TARGET"),
    _config("code as data", 'test = "evil.py:f"\n', "code never runs because a file names it", "--test"),
    _config("code as loss", 'loss = "evil.py:f"\n', "nothing beside 'evil.py:f'.*code never runs", "--loss"),
    _config("newer version", 'schema_version = "2.0"\n', "2.0.*update whynet", code=4),
    _config("no version", "schema_version = 2\n", "schema_version = 2", code=4),
    Mistake("out is a file", (*own()[:-1], "test.npz"), "--out", "'test.npz', which is no folder"),
    Mistake("out below a file", (*own()[:-1], "test.npz/out"), "--out", "Not a directory|no folder|place"),
    Mistake("out has other content", (*own()[:-1], "."), "--out", "other content"),
    Mistake("out has more than a report", (*own()[:-1], "mine"), "--out", r"other content \('notes.txt'\)", lambda: [
        Path("mine").mkdir(), *(Path("mine", n).touch() for n in ("summary.json", "manifest.toml", "notes.txt"))]),
    Mistake("out is unwritable", (*own()[:-1], "/proc/whynet"), "--out", "wanted a place to write to"),
    Mistake("out is the root", (*own()[:-1], "/"), "--out", "found"),
    Mistake("out is a dangling link", (*own()[:-1], "link/x"), "--out", "wanted", lambda: Path("link").symlink_to("link")),
    Mistake("out too long", (*own()[:-1], "x" * 300), "--out", "wanted a place to write to"),
    Mistake("verify nothing", ("verify", "nowhere"), "PATH", "no folder; wanted the folder of an examination"),
    Mistake("verify another folder", ("verify", "."), "PATH", "without manifest.toml"),
    Mistake("cite nothing", ("cite", "nowhere"), "WHAT", "'nowhere'; wanted"),
    Mistake("cite another folder", ("cite", "."), "PATH", "results.zarr", code=4),
)  # fmt: skip

MISTAKES = (
    *NETWORK,
    *STATES,
    *ROWS,
    *OPTIONS,
    *FILES,
    *bad_networks.MISTAKES,
    *bad_regions.MISTAKES,
    *bad_training.MISTAKES,
)
PROCESSES = (
    "no file", "raises", "NaN weights", "feature shape", "unknown option", "garbage budget",
    "unknown key", "newer version", "out is a file", "verify nothing",
)  # fmt: skip
