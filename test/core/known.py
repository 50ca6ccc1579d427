"""The list of known differences: the file `known` beside this one.

A block is for one test, or for several with a pattern as name.  It says which
lines of the difference it explains.  A difference is known only if every line of
it is explained.
"""
import fnmatch
import pathlib
import re
import sys


class Known:
    """One block of the list."""

    FIELDS = ("test", "modes", "versions", "lines", "statement", "alike", "settings", "seen",
              "reason")

    def __init__(self, fields, where):
        unknown = set(fields) - set(self.FIELDS)
        if unknown or "test" not in fields or "reason" not in fields:
            raise SystemExit(f"known, line {where}: a block has test, reason, and some of {self.FIELDS}")
        self.tests = fields["test"].split()
        self.modes = fields.get("modes", "").split()
        self.versions = fields.get("versions", "").split()
        self.lines = re.compile(fields.get("lines", ""))
        self.statement = re.compile(fields.get("statement", ""), re.I | re.S)
        self.alike = re.compile(fields["alike"]) if "alike" in fields else None
        self.settings = fields.get("settings")
        self.seen = re.compile(fields.get("seen", ""))
        self.reason = fields["reason"]

    def may_explain(self, what, mine, primarys):
        """Rows that differ are known only if they are the same without what `alike`
        matches.  A block for many files says only why the standby refuses something."""
        def rest(answer):
            return [self.alike.sub("", repr(row)) for row in answer.rows]
        if what == "rows":
            return bool(self.alike) and rest(mine) == rest(primarys)
        return not any(mark in test for test in self.tests for mark in "*?[") or bool(mine.error)

    def is_for(self, test, mode, major):
        return (any(fnmatch.fnmatchcase(test, each) for each in self.tests)
                and (not self.modes or mode in self.modes)
                and (not self.versions or str(major) in self.versions))


def load(path=None):
    path = pathlib.Path(path or pathlib.Path(__file__).with_name("known"))
    blocks, fields, name = [], {}, None
    for number, line in enumerate(path.read_text().split("\n") + [""], 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                blocks.append(Known(fields, number))
            fields, name = {}, None
        elif line[0] in " \t":
            fields[name] += " " + line.strip()
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return blocks


def explain(blocks, test, mode, major, lines):
    """Reasons for all the lines; None if one of them has no reason."""
    mine = [block for block in blocks if block.is_for(test, mode, major) and not block.settings]
    reasons = []
    for line in lines:
        for block in mine:
            if block.lines.search(line):
                if block.reason not in reasons:
                    reasons.append(block.reason)
                break
        else:
            return None
    return reasons or None


# What a client is told when it gets less than "strong".
SERVED = re.compile(r"WARNING:  read served at level .*\n\s*DETAIL:  (.*)")


def unlike(blocks, test, mode, major, logs):
    """What a test with settings of its own had to show, by its blocks, and did not:
    a fallback for another reason, or no reason for the settings any more."""
    found = []
    for block in blocks:
        if block.settings and block.is_for(test, mode, major):
            if not block.seen.search(logs):
                found.append(f"not seen, so these settings are not needed: {block.seen.pattern}")
            found += [f"a fallback for another reason: {detail}" for detail in SERVED.findall(logs)
                      if not block.lines.search(detail)]
    return found


def main():
    """Prints the settings that a test is run with on top of others."""
    _, _, test, mode, major = sys.argv
    for block in load():
        if block.settings and block.is_for(test, mode, int(major)):
            print(f"# {block.reason}\n{block.settings}")


if __name__ == "__main__":
    main()
