#!/usr/bin/python3
"""The consistency checker of tcs.

    check.py run --bin DIR --dir DIR [--seconds N] [--seed N] [--mix a,b]
                 [--levels a,b] [--history DIR]
    check.py without --bin DIR --dir DIR      servers without tcs: every kind of
                                              violation has to be found
    check.py selftest                         simulated histories
    check.py judge FILE                       a saved history, again

Exit status 0: no violation; 1: violations; 2: no verdict.  README.md says what
is done; judge.py what is demanded.
"""
import argparse
import collections
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import history
import judge
import nemesis
import selftest
import workload
from cluster import Cluster, Failed
from wire import Lost

UNSUPPORTED = ("22023", "0A000")


def say(text):
    print(text, flush=True)


class Totals:
    """What all rounds found, as a table of levels against mixes."""

    def __init__(self):
        self.judged = collections.defaultdict(collections.Counter)
        self.refused = collections.defaultdict(lambda: collections.defaultdict(
            collections.Counter))
        self.violations = collections.defaultdict(collections.Counter)
        self.rounds = collections.Counter()
        self.failovers = collections.Counter()
        self.places = collections.Counter()

    def add(self, mix, found, failovers):
        self.rounds[mix] += 1
        self.failovers[mix] += failovers
        self.judged[mix].update(found.judged)
        self.places.update(found.places)
        for level, states in found.refused.items():
            self.refused[mix][level].update(states)
        self.violations[mix].update(level for _, level, _, _ in found.violations)

    def operations(self):
        return sum(sum(counts.values()) for counts in self.judged.values())

    def table(self):
        """Markdown: judged / refused, violations in bold if there are any."""
        mixes = [m for m in nemesis.MIXES if self.rounds[m]]
        levels = [x for x in (*workload.LEVELS, "write")
                  if any(self.judged[m][x] or self.refused[m][x] for m in mixes)]
        rows = ["| judged / refused | " + " | ".join(mixes) + " | violations |",
                "|---|" + "---|" * (len(mixes) + 1)]
        for level in levels:
            cells = [f"{self.judged[m][level]} / {sum(self.refused[m][level].values())}"
                     for m in mixes]
            count = sum(self.violations[m][level] for m in mixes)
            rows.append(f"| `{level}` | " + " | ".join(cells)
                        + f" | {'**' + str(count) + '**' if count else 0} |")
        cells = [str(sum(self.judged[m].values())) for m in mixes]
        total = sum(sum(self.violations[m].values()) for m in mixes)
        rows.append("| all judged | " + " | ".join(cells) + f" | {total} |")
        states = []
        for mix in mixes:
            both = collections.Counter()
            for counts in self.refused[mix].values():
                both.update(counts)
            states.append(f"{mix}: " + (", ".join(f"{n} x {s}" for s, n in both.most_common())
                                        or "none"))
        places = ", ".join(f"{n} {place}" for place, n in self.places.most_common())
        return "\n".join([*rows, "", f"Reads: {places}.", "Refused, by SQLSTATE: " + "; ".join(states) + ".",
                          "Failovers: " + ", ".join(f"{m} {self.failovers[m]}" for m in mixes
                                                    if self.failovers[m]) + "."])


class Run:
    """A cluster and rounds of clients on it."""

    def __init__(self, args, tcs=True):
        self.args, self.tcs = args, tcs
        self.context = multiprocessing.get_context("fork")
        self.shared = self.context.RawArray("q", len(workload.SHARED))
        self.shared[2] = -1
        self.clients = []
        self.rounds = 0
        self.cluster = Cluster(self.context, args.dir, args.bin, tcs)

    def supported(self, levels):
        """The levels this server knows."""
        known = []
        for level in levels:
            try:
                self.cluster.primary.sql(f"SET tcs.read_level = {level}")
                known.append(level)
            except Failed as error:
                if not any(f" {state} " in str(error) for state in UNSUPPORTED):
                    raise
                say(f"NOT CHECKED: this server refuses the level {level}")
        self.cluster.primary.sql("RESET tcs.read_level", fresh=True)
        return known

    def round(self, mix, sync, seconds, levels, act=None):
        """One mix for so long; (Judge, failovers, records)."""
        cluster, args = self.cluster, self.args
        self.rounds += 1
        seed = f"{args.seed}/{self.rounds}"
        folder = os.path.join(args.dir, f"round-{self.rounds}")
        os.makedirs(folder)
        if cluster.sync != sync:
            cluster.set_sync(sync)
        cluster.primary.sql("TRUNCATE reg, pair_a, pair_b, lst, audit, ballast")
        cluster.follow()
        record = history.Recorder(folder, "nemesis")
        began = time.monotonic_ns()
        record({"k": "meta", "t": began, "seed": seed, "mix": mix, "sync": sync,
                "version": cluster.version, "levels": levels, "tcs": self.tcs})
        self.shared[0], self.shared[1] = 0, cluster.primary.index
        self.shared[2], self.shared[3] = -1, began
        harm = nemesis.Nemesis(cluster, random.Random(seed), record, self.shared, lambda text:
                               args.verbose and say(f"    {(time.monotonic_ns() - began) / 1e9:8.3f}"
                                                    f"  {text}"))
        harm.begin()
        config = workload.Config(
            dsns=[n.dsn for n in cluster.nodes], folder=folder, seed=args.seed, round=self.rounds,
            levels=levels, rate=args.rate, tcs=self.tcs, shared=self.shared,
            redirect=mix == "redirect",
            mail=workload.mailboxes(args.clients))
        self.clients = [self.context.Process(target=workload.client_main, args=(config, i),
                                             daemon=True) for i in range(args.clients)]
        for client in self.clients:
            client.start()
        for pair in config.mail.values():
            for end in pair:
                end.close()
        if act:
            act(harm)
        else:
            harm.run(mix, seconds)
        self.end_clients()
        for name in os.listdir(folder):
            if name.endswith(".failed"):
                with open(os.path.join(folder, name)) as file:
                    raise Failed(f"a client failed: {file.read()}")
        harm.settle()
        harm.end()
        record(self.final())
        record.close()
        records = history.load(folder)
        shutil.rmtree(folder)
        found = judge.Judge(records)
        found.verdict()
        return found, harm.failovers, records

    def end_clients(self):
        """A client ends at the latest when its last operation counts as
        hanging."""
        self.shared[0] = 1
        for client in self.clients:
            client.join(workload.LATE + 30)
            if client.is_alive():
                client.kill()
                client.join()
                raise Failed("a client does not end")
        self.clients = []

    def final(self):
        primary = self.cluster.primary
        audit = primary.sql("SELECT o, n, v, tl FROM audit", 120).rows
        tables = {}
        for kind, table in enumerate(("reg", "pair_a", "pair_b")):
            for k, n, v in primary.sql(f"SELECT k, n, v FROM {table}").rows:
                tables[int(k) * 4 + kind] = [int(n), int(v)]
        for k, values in primary.sql("SELECT k, l FROM lst").rows:
            values = [int(x) for x in values[1:-1].split(b",")]
            tables[int(k) * 4 + history.LIST] = [len(values), values]
        return {"k": "final", "au": [[int(x) for x in row] for row in audit], "tab": tables}

    def stop(self):
        for client in self.clients:
            client.kill()
            client.join()
        self.cluster.stop()


def save(args, name, records):
    os.makedirs(args.history, exist_ok=True)
    path = os.path.join(args.history, f"history-{name}-{args.seed}.jsonl.gz")
    history.save(records, path)
    say(f"the history is in {path}")


def command_run(args):
    mixes = args.mix.split(",") if args.mix else list(nemesis.MIXES)
    levels = args.levels.split(",") if args.levels else list(workload.LEVELS)
    for name in [m for m in mixes if m not in nemesis.MIXES] \
            + [x for x in levels if x not in workload.LEVELS]:
        raise SystemExit(f"unknown mix or level {name}")
    say(f"seed {args.seed}, {args.seconds} s, mixes {' '.join(mixes)}")
    totals = Totals()
    run = Run(args)
    try:
        run.cluster.create()
        levels = run.supported(levels)
        length = max(args.shortest, min(60, args.seconds / len(mixes)))
        end = time.monotonic() + args.seconds
        turn = 0
        while turn < len(mixes) or time.monotonic() < end:
            mix = mixes[turn % len(mixes)]
            sync = nemesis.MIXES[mix][2]
            if sync is None:
                # with synchronous commit first, and then in turns
                sync = turn // len(mixes) % 2 == 0
            turn += 1
            began = time.monotonic()
            found, failovers, records = run.round(mix, sync, length, levels)
            totals.add(mix, found, failovers)
            refused = sum(sum(x.values()) for x in found.refused.values())
            say(f"  {mix}{' (synchronous)' if sync else ''}: {sum(found.judged.values())} judged, "
                f"{refused} refused, {len(found.violations)} violations"
                f"{f', {failovers} failovers' if failovers else ''}"
                f" ({time.monotonic() - began:.0f} s)")
            if found.violations:
                say(judge.report(found))
            if found.violations or args.keep:
                save(args, f"{mix}-{turn}", records)
    finally:
        run.stop()
    say("")
    say(totals.table())
    bad = sum(sum(x.values()) for x in totals.violations.values())
    say(f"\n{totals.operations()} operations judged, {bad} violations, "
        f"PostgreSQL {run.cluster.version}, seed {args.seed}")
    return 1 if bad else 0


# What reads of lagging standbys without tcs get wrong, with a failover.  The
# other kinds would be faults of PostgreSQL itself; those are simulated.
EXPECTED = ("stale-strong", "stale-bounded", "not-linearizable", "read-your-writes",
            "monotonic-reads", "causal", "writes-follow-reads", "torn", "snapshot",
            "silent-lost-token", "deposed")
SOMETIMES = ("prefix",)   # two statements at `snapshot`, by chance


def command_without(args):
    """The same clients and the same judge on servers without tcs, whose
    settings are then placeholders that promise nothing."""
    say(f"seed {args.seed}, without tcs")
    run = Run(args, tcs=False)

    def act(harm):
        for node, ms in zip(run.cluster.standbys(), (300, 1500)):
            harm.note(f"{node.name}: recovery_min_apply_delay {ms} ms")
            node.setting("recovery_min_apply_delay", f"{ms}ms")
        time.sleep(args.seconds)
        harm.failover(alive=True, lossy=True)
        time.sleep(args.seconds / 4)

    try:
        run.cluster.create()
        # a torn transaction is a matter of luck, so more of what can show one
        found, _, records = run.round("failover_async", False, 0,
                                      [*workload.LEVELS, *["snapshot"] * 4], act)
    finally:
        run.stop()
    kinds = collections.Counter(kind for kind, _, _, _ in found.violations)
    if args.verbose:
        say(judge.report(found, 1))
    for kind in EXPECTED:
        say(f"  {kinds[kind]:6} x {kind}")
    missing = [kind for kind in EXPECTED if not kinds[kind]]
    wrong = [kind for kind in kinds if kind not in EXPECTED + SOMETIMES]
    if wrong:
        say(f"kinds that PostgreSQL itself must not show: {' '.join(wrong)}")
        say(judge.report(found, 1))
    if missing:
        say(f"not found: {' '.join(missing)}")
    if missing or wrong or args.keep:
        save(args, "without", records)
    say(f"without tcs: {sum(found.judged.values())} operations judged, {len(found.violations)} "
        f"violations, {len(EXPECTED) - len(missing)} of {len(EXPECTED)} kinds found")
    return 1 if missing or wrong else 0


def command_judge(args):
    found = judge.Judge(history.load(args.file))
    found.verdict()
    text = judge.report(found, args.limit)
    if text:
        say(text)
    say(f"{sum(found.judged.values())} operations judged, {len(found.violations)} violations")
    return 1 if found.violations else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "without"):
        command = commands.add_parser(name)
        command.add_argument("--bin", required=True, help="bin/ of the server")
        command.add_argument("--dir", required=True, help="scratch folder, which must not exist")
        command.add_argument("--seconds", type=float, default=120)
        command.add_argument("--shortest", type=float, default=10, help="seconds of a round")
        command.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
        command.add_argument("--mix", default="")
        command.add_argument("--levels", default="")
        command.add_argument("--clients", type=int, default=6)
        command.add_argument("--rate", type=float, default=150, help="operations/s of a client")
        command.add_argument("--history", default=".", help="where histories are saved")
        command.add_argument("--keep", action="store_true", help="save every history")
        command.add_argument("--verbose", action="store_true", help="show the faults")
    commands.add_parser("selftest")
    command = commands.add_parser("judge")
    command.add_argument("file")
    command.add_argument("--limit", type=int, default=5)
    return parser.parse_args()


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        if args.command == "selftest":
            return selftest.main()
        if args.command == "judge":
            return command_judge(args)
        os.mkdir(args.dir, 0o700)
        if args.command == "run":
            return command_run(args)
        return command_without(args)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except (Failed, Lost) as error:
        say(f"no verdict: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
