"""Three nodes on this machine: a primary and two standbys, and who is what.

Everything lives in one scratch folder.  Clients connect through Unix sockets
there; the links between the nodes go over 127.0.0.1 and through proxies, by
password, as any user of the machine can reach them.  Every server is a child
of this process and gets SIGQUIT from the kernel should this process die.

A node's configuration does not change with its role: both its links lead to
its proxies, and the proxies to whoever is primary.
"""
import ctypes
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time

from proxy import Proxies
from wire import Conn, Hang, Lost

NAMES = ("n1", "n2", "n3")
LOOK = "-c tcs.read_level=eventual -c synchronous_commit=local -c statement_timeout=20s"

CONF = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
cluster_name = '{name}'
primary_conninfo = 'host=127.0.0.1 port={stream} user=tcs password={password} application_name={name}'
synchronous_standby_names = '{sync}'
hot_standby = on
max_connections = 80
max_wal_senders = 20
max_prepared_transactions = 10
shared_buffers = 32MB
max_wal_size = 512MB
wal_keep_size = 512MB
wal_log_hints = on
checkpoint_timeout = 1h
autovacuum = off
fsync = off
wal_sender_timeout = 4s
wal_receiver_timeout = 4s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
max_standby_streaming_delay = 2s
deadlock_timeout = 500ms
log_replication_commands = off
restart_after_crash = on
"""

TCS_CONF = """
shared_preload_libraries = 'tcs'
tcs.lease_duration = 1s
tcs.lease = {lease}
"""

ASK_CONF = """
tcs.primary_conninfo = 'host=127.0.0.1 port={ask} user=tcs password={password} dbname=postgres'
"""


class Failed(Exception):
    """The cluster cannot be brought where the test needs it: no verdict."""


def poll(what, seconds, test, every=0.02):
    """Waits until test() is true; what is said when it never is."""
    end = time.monotonic() + seconds
    while True:
        result = test()
        if result:
            return result
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(every)


def free_port(rng):
    """A port below the range from which the kernel takes those of outgoing
    connections, so that it is still free when its server restarts."""
    for _ in range(1000):
        port = rng.randrange(10240, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failed("no free port")


def lsn_number(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class Node:
    """One server."""

    def __init__(self, cluster, index):
        self.cluster, self.index, self.name = cluster, index, NAMES[index]
        self.dir = os.path.join(cluster.dir, self.name)
        self.log = os.path.join(cluster.dir, self.name + ".log")
        self.port = free_port(random.Random())
        self.dsn = f"host={cluster.sockets} port={self.port} user=tcs dbname=postgres"
        # Its worker has a way to the primary of its own; n2's goes the way of
        # replication.
        self.asks = index != 1
        self.process = None
        self.stopped = []   # processes of this node that have SIGSTOP
        self._conn = None

    # ---- processes

    def start(self, seconds=60):
        """Starts the server and returns when it takes connections."""
        def preexec():
            ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG

        end = time.monotonic() + seconds
        while True:
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    [self.cluster.program("postgres"), "-D", self.dir],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, preexec_fn=preexec)
            while self.process.poll() is None:
                try:
                    self.sql("SELECT 1")
                    return
                except Lost:
                    if time.monotonic() > end:
                        raise Failed(f"{self.name} does not start: {self.tail()}") from None
                    time.sleep(0.05)
            # After kill -9 its children hold the shared memory a moment longer.
            if time.monotonic() > end:
                raise Failed(f"{self.name} does not start: {self.tail()}")
            time.sleep(0.1)

    def up(self):
        return self.process is not None and self.process.poll() is None

    def end(self, number, seconds=60):
        """Ends the server by a signal: SIGINT fast, SIGQUIT immediate,
        SIGKILL crash."""
        self.go_on()
        self._forget()
        if self.up():
            self.process.send_signal(number)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
        self.process = None

    def worker(self):
        """Process of the worker of tcs, which no view shows."""
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/stat") as stat, \
                        open(f"/proc/{name}/cmdline") as command:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
                    if self.up() and parent == self.process.pid and \
                            "tcs worker" in command.read():
                        return int(name)
            except (OSError, ValueError):
                continue  # not a process, or gone
        return None

    def stop_process(self, pid):
        os.kill(pid, signal.SIGSTOP)
        self.stopped.append(pid)

    def go_on(self):
        for pid in self.stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self.stopped = []

    def tail(self):
        try:
            with open(self.log, errors="replace") as log:
                return " | ".join(line.strip() for line in log.readlines()[-5:])
        except OSError:
            return "no log"

    # ---- statements of the test itself

    def sql(self, text, wait=30, fresh=False):
        """Reply of a statement, outside of every level.  An error is Failed."""
        if fresh:
            self._forget()
        for attempt in range(10):
            reused = self._conn is not None
            if not reused:
                self._conn = Conn(self.dsn, LOOK)
            try:
                reply = self._conn.simple(text, wait)
            except Hang:
                self._conn = None
                raise Failed(f"{self.name}: no reply to {text}") from None
            except Lost:
                # a connection from before a restart is no news
                self._conn = None
                if not reused:
                    raise
                continue
            if reply.state not in ("40001", "40P01"):  # conflicts with replay
                break
        if reply.state:
            raise Failed(f"{self.name}: {text}: {reply.state} {reply.error}")
        return reply

    def one(self, text, wait=30):
        return self.sql(text, wait).one

    def _forget(self):
        if self._conn:
            self._conn.close()
            self._conn = None

    def setting(self, name, value):
        """ALTER SYSTEM and reload; returns when it is in force."""
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'" if value is not None
                 else f"ALTER SYSTEM RESET {name}")
        self.sql("SELECT pg_reload_conf()")

    def position(self):
        """What this standby has received or replayed."""
        text = self.one("SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())")
        return lsn_number(text) if text else 0

    def timeline_of_primary(self):
        return int(self.one("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), 16)


class Cluster:
    """The nodes, the proxies, and the roles."""

    def __init__(self, context, folder, bindir, tcs=True):
        self.dir, self.bin, self.tcs = folder, bindir, tcs
        self.sockets = os.path.join(folder, "s")
        os.makedirs(self.sockets, mode=0o700)
        self.password = secrets.token_hex(16)
        self.sync = False
        self.nodes = [Node(self, i) for i in range(len(NAMES))]
        self.proxies = Proxies(context, [n + end for n in NAMES for end in ("-stream", "-ask")])
        self.primary = self.nodes[0]
        self.deposed = None
        self.version = 0

    def program(self, name):
        return os.path.join(self.bin, name)

    def run(self, *command, **options):
        done = subprocess.run([self.program(command[0]), *command[1:]],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, **options)
        if done.returncode:
            raise Failed(f"{command[0]}: {done.stdout.strip()[-600:]}")

    def standbys(self):
        return [n for n in self.nodes if n is not self.primary]

    # ---- configuration

    def configure(self, node):
        """Writes the whole configuration; what a copy brought along goes."""
        others = ", ".join(n for n in NAMES if n != node.name)
        values = dict(
            port=node.port, sockets=self.sockets, name=node.name, password=self.password,
            stream=self.proxies.ports[node.name + "-stream"],
            ask=self.proxies.ports[node.name + "-ask"],
            sync=f"ANY 1 ({others})" if self.sync else "")
        text = CONF.format(**values)
        if self.tcs:
            # the last one asks for each strong read
            text += TCS_CONF.format(lease="off" if node.name == NAMES[-1] else "on")
            if node.asks:
                text += ASK_CONF.format(**values)
        with open(os.path.join(node.dir, "postgresql.conf"), "w") as conf:
            conf.write(text)
        with open(os.path.join(node.dir, "postgresql.auto.conf"), "w") as conf:
            conf.write("")

    def set_sync(self, on):
        """Commits wait for one of two standbys, or for none.  Each node names
        only the two others: ANY 1 of three could be formed on two sides."""
        self.sync = on
        for node in self.nodes:
            self.configure(node)
            node.sql("SELECT pg_reload_conf()")
        want = "ANY 1 (" if on else ""
        for node in self.nodes:
            poll(f"{node.name}: synchronous_standby_names", 20,
                 lambda n=node: n.one("SHOW synchronous_standby_names").startswith(want)
                 and (on or not n.one("SHOW synchronous_standby_names")))

    # ---- life

    def create(self):
        """The primary with the tables, and two standbys made from it."""
        node = self.primary
        os.makedirs(node.dir, exist_ok=True)
        secret = os.path.join(self.dir, "password")
        with open(secret, "w") as file:
            file.write(self.password)
        self.run("initdb", "-D", node.dir, "-U", "tcs", "-A", "scram-sha-256",
                 "--pwfile", secret, "--encoding=UTF8", "--locale=C", "--no-sync",
                 env={k: v for k, v in os.environ.items() if k != "INITDB_TEMPLATE"})
        os.unlink(secret)
        with open(os.path.join(node.dir, "pg_hba.conf"), "w") as hba:
            hba.write("local all,replication all trust\n"
                      "host all,replication all 127.0.0.1/32 scram-sha-256\n")
        self.configure(node)
        node.start()
        if self.tcs:
            node.sql("CREATE EXTENSION tcs")
            hosts = ",".join([self.sockets] * len(NAMES))
            ports = ",".join(str(n.port) for n in self.nodes)
            node.sql("CREATE SERVER tcs_primary FOREIGN DATA WRAPPER tcs_fdw OPTIONS "
                     f"(host '{hosts}', port '{ports}');"
                     "CREATE USER MAPPING FOR tcs SERVER tcs_primary")
        node.sql("""
            CREATE TABLE reg (k int PRIMARY KEY, n bigint, v bigint) WITH (fillfactor = 50);
            CREATE TABLE pair_a (LIKE reg INCLUDING ALL) WITH (fillfactor = 50);
            CREATE TABLE pair_b (LIKE reg INCLUDING ALL) WITH (fillfactor = 50);
            CREATE TABLE lst (k int PRIMARY KEY, l bigint[]) WITH (fillfactor = 50);
            CREATE TABLE audit (o int, n bigint, v bigint, tl int);
            CREATE TABLE mark (id int PRIMARY KEY, v bigint);
            INSERT INTO mark VALUES (1, 0);
            CREATE TABLE ballast (id int, filler text);
            CREATE FUNCTION timeline() RETURNS int VOLATILE LANGUAGE sql AS $$
                SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
            $$;
            """)
        self.version = int(node.one("SHOW server_version_num")) // 10000
        for standby in self.standbys():
            self.lead(standby)
            self.rebuild(standby)

    def lead(self, node):
        """Both links of a node lead to the primary from now on."""
        for end in ("-stream", "-ask"):
            self.proxies.tell(node.name + end, "pass")
            self.proxies.tell(node.name + end, "target", self.primary.port)

    def unplug(self, node):
        for end in ("-stream", "-ask"):
            self.proxies.tell(node.name + end, "cut")

    def rebuild(self, node):
        """A standby as a new copy of the primary."""
        node.end(signal.SIGQUIT)
        shutil.rmtree(node.dir, ignore_errors=True)
        self.run("pg_basebackup", "-D", node.dir, "-h", self.sockets, "-p", str(self.primary.port),
                 "-U", "tcs", "-c", "fast", "-X", "stream", "--no-sync", timeout=120)
        self._begin_as_standby(node)

    def rewind(self, node):
        """A former primary as a standby, by pg_rewind; it was shut down."""
        self.primary.sql("CHECKPOINT")
        self.run("pg_rewind", "-D", node.dir, "--no-sync", "--source-server",
                 f"{self.primary.dsn} options='-c synchronous_commit=local'", timeout=120)
        self._begin_as_standby(node)

    def _begin_as_standby(self, node):
        self.configure(node)
        with open(os.path.join(node.dir, "standby.signal"), "w"):
            pass
        self.lead(node)
        node.start()

    def promote(self, node):
        """Makes a standby the primary; its upstream is dead or unplugged."""
        node.sql("SELECT pg_promote(false)")
        poll(f"{node.name}: promotion", 60,
             lambda: node.one("SELECT pg_is_in_recovery()") == "f")
        self.primary = node

    def follow(self, seconds=30):
        """Returns when every standby that runs has what the primary has now."""
        primary = self.primary
        primary.sql("UPDATE mark SET v = v + 1")
        value = primary.one("SELECT v FROM mark")
        for standby in self.standbys():
            if standby is not self.deposed:
                poll(f"{standby.name} does not follow", seconds,
                     lambda s=standby: s.up() and s.one("SELECT v FROM mark") == value)

    def stop(self):
        """No process is left."""
        for node in self.nodes:
            try:
                node.end(signal.SIGQUIT, 20)
            except OSError:
                pass
        self.proxies.stop()


def bindir_version(bindir):
    text = subprocess.run([os.path.join(bindir, "postgres"), "--version"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(re.search(r"\) (\d+)", text).group(1))
