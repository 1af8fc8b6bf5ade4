"""The hundred bad inputs of the notes on reliability, and where each is tested."""

from __future__ import annotations

ROWS: dict[int, tuple[str, ...]] = {
    1: ("no file", "no weights"), 2: ("no name",), 3: ("absent name",), 4: ("raises",),
    5: ("import",), 6: ("needs arguments",), 7: ("a class",),
    8: ("nothing", "no network", "a word for a network"), 9: ("sys.exit",),
    10: ("weights missing", "other names of weights"), 11: ("weights of another shape",),
    15: ("NaN weights", "NaN without weights", "an infinite buffer"),
    16: ("float64 weights too large",), 18: ("a lazy layer", "a lazy buffer"),
    19: ("a buffer without values",), 20: ("no values",), 21: ("whole-number weights",),
    22: ("complex weights",), 25: ("float8 weights",),
    26: ("structured output", "no such entry"), 27: ("an output of words",),
    28: ("a scalar output", "no batch axis"), 29: ("labels for scores",),
    42: ("an embedding that edits",), 45: ("TorchScript",), 47: ("no copies",),
    48: ("tiny memory",), 49: ("no file of data", "no data at all"), 50: ("unknown suffix",),
    51: ("empty", "an empty loader"), 52: ("NaN rows", "a row whose outputs are too large"),
    53: ("feature shape", "test rows unlike training rows"), 55: ("labels out of range",),
    56: ("float labels", "one column of labels", "no probabilities"), 57: ("no label scored",),
    58: ("other length",), 59: ("triples", "named without labels"), 61: ("a worker that dies",),
    62: ("a loader that raises",), 64: ("objects",), 68: ("ragged rows",),
    69: ("words in a table", "missing cell", "decimal comma", "semicolons"),
    70: ("a compressed table",), 73: ("unknown key", "unknown option"),
    74: ("a tag of YAML",), 75: ("bombs of YAML",),
    76: ("a key twice", "a float for a number", "true is no number", "another type"),
    77: ("batch size 2^62", "huge integer", "too many digits"),
    78: ("batch size 0", "batch size 2.5", "negative seed"),
    79: ("no rounds", "negative seeds", "not a number"), 81: ("unknown instrument",),
    82: ("nothing left", "data for a built-in", "training: beside a built-in"),
    84: ("device", "no such card"), 85: ("no threads",),
    86: ("out is a file", "out has other content", "out has more than a report"),
    87: ("out is unwritable",), 88: ("out too long", "out is a dangling link"),
    100: ("newer version", "no version"),
}  # fmt: skip
"""Number of a case to the names of its rows among the mistakes."""

STATED: dict[int, str] = {
    12: "no parameters", 13: "all frozen", 14: "some frozen", 17: "tied", 23: "half precision",
    24: "mixed precision", 30: "detached", 31: "a step", 33: "in place on the input",
    34: "in place on a needed tensor", 35: "dropout", 36: "batch normalization",
    37: "random forward pass", 38: "counts its calls", 39: "a branch on the data",
    44: "not piecewise linear", 46: "hooks", 54: "one row", 63: "shuffled loader",
    65: "bytes", 67: "constant and collinear features", 71: "numbers above 2^53",
    98: "a running loop",
}  # fmt: skip
"""Number of a case that is no mistake to the name of its row in `test_stated_inputs.py`."""

ELSEWHERE: dict[int, str] = {
    32: "derivatives/torch_ops/test_torch_ops.py::test_right_number_or_stated_refusal",
    40: "derivatives/torch_ops/test_torch_ops.py::test_right_number_or_stated_refusal",
    41: "derivatives/torch_ops/test_torch_ops.py::test_right_number_or_stated_refusal",
    43: "derivatives/torch_ops/test_torch_ops.py::test_right_number_or_stated_refusal",
    60: "models/data/test_examples.py::test_endless_streams_are_refused",
    66: "concepts/generalization/test_repeated_rows.py::"
    "test_they_are_counted_whatever_their_labels_and_a_finding_says_so",
    72: "models/data/test_load.py::test_declared_sizes_are_limited_before_reading",
    80: "atlas/test_pages.py::test_mistakes_get_one_sentence",
    83: "models/data/test_load.py::test_parquet_without_pyarrow_names_the_extra",
    89: "cli/test_safety.py::test_bytes_that_are_no_text_work_as_the_place_of_a_report",
    90: "examination/test_store_check.py::test_names_that_lead_out_of_the_folder_are_refused",
    92: "cli/test_interruption.py::test_a_reader_that_leaves_is_no_error",
    93: "cli/test_stated_inputs.py::test_bare_surroundings",
    94: "cli/test_stated_inputs.py::test_bare_surroundings",
    95: "cli/test_interruption.py::test_a_signal_ends_a_process_at_once_and_whole",
    96: "cli/test_interruption.py::test_a_signal_ends_a_process_at_once_and_whole",
    97: "cli/test_stated_inputs.py::test_bare_surroundings",
    99: "atlas/test_pool.py::test_it_works_whatever_the_main_program_is",
}
"""Number of a case to the test that covers it."""

NOT_YET: dict[int, str] = {
    91: "Every name that is written is lower case and our own; none comes from the user.",
}
"""Number of a case that cannot arise yet to the reason."""
