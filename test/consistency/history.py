"""The history of one round: what was recorded, and how it is kept.

One record is one JSON object in a line.  Stamps (`s`, `e`, `t`) are
nanoseconds of CLOCK_MONOTONIC, the same clock in every process: `s` was taken
before the message was sent, `e` after the reply was there.

meta    seed, mix, sync, bound (ms), version, levels, tcs
w       a write: c client, i its number, nd node, o objects, v its unique value,
        n version numbers from the reply, tl timeline from the reply,
        st ok | info (may have happened) | fail (did not happen), er SQLSTATE,
        p the session's token was presented, ln it was updated from the reply,
        ti/to token before and after
r       a read: lv level asked for, le level served at, ob [[object, n, value]]
        (of a list: all its values), f form, pr the node was taken for the
        primary, rd redirected: 0 no, 1 it was allowed, 2 yes, bd the bound in
        ms; p, ln, ti, to as above
x       a refused read or write: wr r|w, lv, er, msg
hang    an operation without any reply in time
drop    the session threw its token away (it was told that it is lost)
send    client c handed its token to others under the number m
recv    client c merged the token m into its own
tl      node nd can have been on timeline tl from t to te (null: to the end)
f       something the nemesis did
final   au [[object, n, value, timeline]]: every version of the history that
        survived, from the primary at the end; tab {object: [n, value]}, the
        tables themselves

An object is a number: 4 * key + kind; kinds 0 register, 1 and 2 the two halves
of a pair, 3 list.
"""
import glob
import gzip
import json
import os

REG, PAIR_A, PAIR_B, LIST = range(4)
KIND_NAMES = ("register", "pair_a", "pair_b", "list")


def object_name(obj):
    return f"{KIND_NAMES[obj % 4]} {obj // 4}"


class Recorder:
    """Appends records to a file of one process."""

    def __init__(self, folder, name):
        self._file = open(os.path.join(folder, name + ".jsonl"), "w", buffering=1 << 16)
        self._dump = json.JSONEncoder(separators=(",", ":")).encode

    def __call__(self, record):
        self._file.write(self._dump(record) + "\n")

    def close(self):
        self._file.close()


def load(path):
    """Records of a folder of recorders, or of a saved file."""
    files = sorted(glob.glob(os.path.join(path, "*.jsonl"))) if os.path.isdir(path) else [path]
    records = []
    for name in files:
        opener = gzip.open if name.endswith(".gz") else open
        with opener(name, "rt") as file:
            for line in file:
                # A process that was killed may leave half a line.
                if line.endswith("\n"):
                    records.append(json.loads(line))
    return records


def save(records, path):
    with gzip.open(path, "wt", compresslevel=5) as file:
        for record in records:
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
