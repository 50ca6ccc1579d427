"""Judges a run of core's tests: what failed, and is it known and explained?

    verdict.py regress ... FOLDER     the output and regression.diffs of pg_regress
    verdict.py tap ... FOLDER         the output of prove, for one file

Prints a line for each test that is not plainly ok, and writes `passed failed
skipped` to FOLDER/counts.
"""
import argparse
import pathlib
import re

import known

# "test x ... ok 1 ms" and "     x ... ok" of 15; "ok 1 - x 1 ms" of later versions
OLD_RESULT = re.compile(r"^(?:test)?\s+(\S+)\s+\.\.\. (ok|FAILED|failed \(ignored\))")
NEW_RESULT = re.compile(r"^(ok|not ok) \d+\s+[-+] (\S+)")

# What a TAP file complains of.
COMPLAINT = re.compile(
    r"^\s*not ok \d+(?! .*# (?:TOD[O]|SKIP))|timed out|^#?\s*(?:psql:\S+ )?error running SQL|^Bail out|"
    r"^Can't |^could not |^died|ERROR:  |FATAL:  |PANIC:  ")
# A process that crashed, which a test may not notice: workers are started again.
# Some tests kill a server by SIGKILL or SIGQUIT, none in these ways.
CRASH = re.compile(r"TRAP: |was terminated by signal (?:4|6|7|8|11)\b")
NOISE = re.compile(r"^\s*#\s+(?:got|expected|'|\s)|^# (?:Looks like|Tests were run)")


def crashes(folder):
    """Lines of servers' logs that tell of a crash."""
    found = []
    for path in sorted(folder.rglob("*.log")):
        with open(path, errors="replace") as log:
            found += [f"{path.name}: {line.strip()}" for line in log if CRASH.search(line)]
    return found


def report_crashes(args, name):
    """1 if a server crashed, which fails a test whatever else it says."""
    found = crashes(args.folder)
    if found:
        print(f"  FAILED   {name} ({args.mode}): a crash")
    for line in found[:10]:
        print("    ! " + line[:300])
    return 1 if found else 0


def regress(args, blocks):
    out = args.folder
    results = {}
    for line in (out / "output.txt").read_text(errors="replace").splitlines():
        if found := OLD_RESULT.match(line):
            results[found[1]] = found[2] == "ok"
        elif found := NEW_RESULT.match(line):
            results[found[2]] = found[1] == "ok"
    diffs = read_diffs(out / "regression.diffs")
    passed = failed = 0
    for name, ok in results.items():
        if ok:
            passed += 1
            continue
        changed = [line for line in diffs.get(name, [])
                   if line[:1] in "+-" and not line.startswith(("+++ ", "--- "))]
        reasons = known.explain(blocks, f"{args.kind}/{name}", args.mode, args.major, changed)
        if reasons:
            passed += 1
            print(f"  known    {args.kind}/{name}: {'; '.join(reasons)}")
        else:
            failed += 1
            print(f"  FAILED   {args.kind}/{name} ({args.mode})")
            for line in diffs.get(name, ["no difference was kept: a crash?"])[:60]:
                print("    | " + line[:300])
    if not results:
        failed = 1
        print(f"  FAILED   {args.kind} ({args.mode}): no results")
        log = out / "log" / "postmaster.log"
        for path in (out / "output.txt", log):
            if path.exists():
                for line in path.read_text(errors="replace").splitlines()[-20:]:
                    print("    | " + line[:300])
    failed += report_crashes(args, args.kind)
    print(f"  {args.kind}, {args.mode}: {passed} as expected, {failed} not ({args.seconds} s)")
    return passed, failed, 0


def read_diffs(path):
    diffs, lines = {}, []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            if found := re.match(r"diff .*/results/(\S+)\.out$", line):
                lines = diffs.setdefault(found[1], [])
            lines.append(line)
    return diffs


def tap(args, blocks):
    text = (args.folder / "output.txt").read_text(errors="replace")
    logs = sorted((args.folder / "tmp_check" / "log").glob("*"))
    name = f"{args.kind}/{args.name}"
    if report_crashes(args, name):
        return 0, 1, 0
    if args.status == 0:
        wrong = known.unlike(blocks, name, args.mode, args.major,
                             text + "".join(path.read_text(errors="replace") for path in logs))
        if wrong:
            print(f"  FAILED   {name} ({args.mode}): what is known of it is not so")
            for line in wrong[:10]:
                print("    ! " + line[:300])
            return 0, 1, 0
        if "\nResult: NOTESTS" in text:
            why = re.search(r"skipped: (.*)", text)
            print(f"  skipped  {name}: {why[1] if why else ''}")
            return 0, 0, 1
        checks = re.search(r"^Files=.*Tests=(\d+)", text, re.M)
        print(f"  ok       {name} ({checks[1] if checks else '?'} checks, {args.seconds} s)")
        return 1, 0, 0

    for path in logs:
        if path.name.startswith("regress_log_"):
            text += path.read_text(errors="replace")
    complaints = [line for line in text.splitlines()
                  if COMPLAINT.search(line) and not NOISE.match(line)]
    reasons = known.explain(blocks, name, args.mode, args.major, complaints) if args.status < 124 else None
    if reasons:
        print(f"  known    {name}: {'; '.join(reasons)}")
        return 1, 0, 0
    print(f"  FAILED   {name} ({args.mode}, exit status {args.status}, {args.seconds} s)")
    for line in complaints[:30]:
        print("    ! " + line[:300])
    for path in [args.folder / "output.txt", *logs]:
        print(f"    --- {path.name}")
        for line in path.read_text(errors="replace").splitlines()[-12:]:
            print("    | " + line[:300])
    return 0, 1, 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("regress", "tap"))
    parser.add_argument("--major", type=int, required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--name")
    parser.add_argument("--status", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()
    counts = {"regress": regress, "tap": tap}[args.what](args, known.load())
    (args.folder / "counts").write_text("%d %d %d\n" % counts)


if __name__ == "__main__":
    main()
