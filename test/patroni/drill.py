"""test/patroni/drill.py: the drill itself, called by run.

Two clusters of three nodes, alike but that one has tcs.  Each has

  * a permanent logical slot, which Patroni keeps on every node, and a consumer;
  * max_wal_senders at its minimum: two standbys and that consumer, none spare;
  * with tcs, `bounded` as the standing level of everybody, Patroni included, and
    what examples/patroni.yml says.

A round kills the leader, server and Patroni, by SIGKILL.  It passes when a new
leader takes writes and has lost none that standbys had, when the former leader is
back, when both standbys and the consumer stream, when the slot is on every node,
and when reads on the standbys are fresh at `bounded` and `strong`.  While workers
compete for the last connection of the primary, a read may be refused, but never
be wrong; with tcs.primary_conninfo it has to be served.

Which rounds do what: odd ones leave tcs to primary_conninfo, which needs a
connection that there is not; even ones give it tcs.primary_conninfo.  The last
one is with synchronous_mode.  A switchover follows.

Times are printed, not asserted, but for one: the cluster with tcs must not take
twice as long as the other.
"""

import base64
import ctypes
import json
import os
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import psycopg2
import yaml

scratch, bindir = sys.argv[1:3]
source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
short = os.environ.get('SHORT', '') not in ('', '0')
rounds = int(os.environ.get('ROUNDS') or (2 if short else 5))

NODES = 3
SLOT = 'feed'
PATIENCE = 90       # seconds until a step counts as failed
BOUND = 1           # seconds, tcs.max_staleness

# Others of this machine may reach the ports.
password = {user: secrets.token_hex(16) for user in ('postgres', 'replicator', 'rewind', 'app', 'root', 'rest')}
passfile = os.path.join(scratch, 'passwords')
with open(os.open(passfile, os.O_WRONLY | os.O_CREAT, 0o600), 'w') as file:
    file.write(f'*:*:*:replicator:{password["replicator"]}\n')


class Failed(Exception):
    pass


def log_path(name):
    return os.path.join(scratch, 'log', name + '.log')


def poll(what, look, patience=PATIENCE):
    """Calls look() until it returns something true, and returns that.  While it
    cannot be asked, the answer is no."""
    end = time.monotonic() + patience
    last = None
    while time.monotonic() < end:
        try:
            found = look()
            if found:
                return found
            last = None
        except (psycopg2.Error, OSError, ValueError, LookupError) as e:
            last = str(e).strip()
        time.sleep(0.05)
    raise Failed(f'{what}: not within {patience} s' + (f' ({last})' if last else ''))


# ---- processes ----

started = []


def die_with_us():
    """A child is killed when this program ends, however that happens."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(name, command, **how):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(log_path(name), 'a'),
                               stderr=subprocess.STDOUT, preexec_fn=die_with_us, **how)
    started.append(process)
    return process


next_port = int(os.environ.get('PORTS') or 7200)


def free_port():
    global next_port
    while True:
        next_port += 1
        with socket.socket() as s:
            try:
                s.bind(('127.0.0.1', next_port - 1))
                return next_port - 1
            except OSError:
                pass


# ---- etcd ----

class Etcd:
    def __init__(self):
        self.port, peer = free_port(), free_port()
        self.token = None
        me, other = f'http://127.0.0.1:{self.port}', f'http://127.0.0.1:{peer}'
        start('etcd', ['etcd', '--data-dir', os.path.join(scratch, 'etcd'), '--bcrypt-cost', '4',
                       '--listen-client-urls', me, '--advertise-client-urls', me,
                       '--listen-peer-urls', other, '--initial-advertise-peer-urls', other,
                       '--initial-cluster', 'default=' + other])
        poll('etcd starts', lambda: self.call('maintenance/status'))
        self.call('auth/user/add', name='root', password=password['root'])
        self.call('auth/role/add', name='root')
        self.call('auth/user/grant', user='root', role='root')
        self.call('auth/enable')
        self.token = self.call('auth/authenticate', name='root', password=password['root'])['token']

    def call(self, path, **what):
        request = urllib.request.Request(f'http://127.0.0.1:{self.port}/v3/{path}', json.dumps(what).encode())
        if self.token:
            request.add_header('Authorization', self.token)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def get(self, key):
        """The value of a key, or None."""
        found = self.call('kv/range', key=base64.b64encode(key.encode()).decode()).get('kvs')
        return base64.b64decode(found[0]['value']).decode() if found else None


# ---- a node ----

class Node:
    def __init__(self, cluster, number):
        self.cluster = cluster
        self.name = f'{cluster.name}{number}'
        self.port, self.rest_port = free_port(), free_port()
        self.data = os.path.join(scratch, self.name)
        self.conf = os.path.join(scratch, self.name + '.yml')
        self.patroni = None

    def configure(self, dcs):
        def role(name):
            return {'username': name, 'password': password[name]}

        conf = {
            'scope': self.cluster.name,
            'name': self.name,
            'restapi': {'listen': f'127.0.0.1:{self.rest_port}', 'connect_address': f'127.0.0.1:{self.rest_port}',
                        'authentication': role('rest')},
            'etcd3': {'host': f'127.0.0.1:{self.cluster.etcd.port}', **role('root')},
            'bootstrap': {'dcs': dcs,
                          'initdb': [{'encoding': 'UTF8'}, {'auth': 'scram-sha-256'}, 'data-checksums', 'no-sync']},
            'postgresql': {
                'listen': f'127.0.0.1:{self.port}', 'connect_address': f'127.0.0.1:{self.port}',
                'data_dir': self.data, 'bin_dir': bindir, 'use_unix_socket': True,
                'pgpass': os.path.join(scratch, self.name + '.pgpass'),
                'authentication': {'superuser': role('postgres'), 'replication': role('replicator'),
                                   'rewind': role('rewind')},
                'basebackup': ['no-sync', {'checkpoint': 'fast'}],
                'parameters': {'unix_socket_directories': scratch},
                'pg_hba': ['local all all scram-sha-256', 'host all all 127.0.0.1/32 scram-sha-256',
                           'host replication replicator 127.0.0.1/32 scram-sha-256']},
        }
        with open(self.conf, 'w') as file:
            os.chmod(self.conf, 0o600)
            yaml.safe_dump(conf, file)

    def start(self):
        self.patroni = start(self.name, [sys.executable, '-m', 'patroni', self.conf], cwd=scratch)

    def postmaster(self):
        """Its process id, if that is a server of ours in this data directory."""
        with open(os.path.join(self.data, 'postmaster.pid')) as file:
            pid = int(file.readline())
        if os.readlink(f'/proc/{pid}/exe') != os.path.realpath(os.path.join(bindir, 'postgres')) or \
                os.readlink(f'/proc/{pid}/cwd') != os.path.realpath(self.data):
            raise Failed(f'{self.name}: process {pid} is not its server')
        return pid

    def kill(self):
        pid = self.postmaster()
        self.patroni.kill()
        os.kill(pid, signal.SIGKILL)
        self.patroni.wait()

    def query(self, sql, user='postgres', options=''):
        """The rows of the last statement; each call has a connection of its own."""
        db = psycopg2.connect(host='127.0.0.1', port=self.port, user=user, password=password[user], dbname='postgres',
                              connect_timeout=5, options='-c statement_timeout=10s ' + options)
        try:
            db.autocommit = True
            with db.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            db.close()

    def rest(self, method, path, body=None):
        request = urllib.request.Request(f'http://127.0.0.1:{self.rest_port}/{path}', method=method,
                                         data=json.dumps(body).encode() if body is not None else None)
        request.add_header('Content-Type', 'application/json')
        request.add_header('Authorization', 'Basic ' +
                           base64.b64encode(f'rest:{password["rest"]}'.encode()).decode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()


# ---- a cluster ----

class Cluster:
    def __init__(self, name, etcd, tcs):
        self.name, self.etcd, self.tcs = name, etcd, tcs
        self.nodes = [Node(self, i + 1) for i in range(NODES)]
        self.value = 0
        self.written = '0/0'
        self.times = []
        self.failure = None

    def say(self, text):
        print(f'  {self.name:8} {text}', flush=True)

    def settings(self):
        """Patroni's dynamic configuration: the example, and what the drill is about."""
        with open(os.path.join(source, 'examples', 'patroni.yml')) as file:
            # with the settings that are commented out in it
            dcs = yaml.safe_load(re.sub(r'^( *)#([a-z])', r'\1\2', file.read(), flags=re.M))
        parameters = dcs['postgresql']['parameters']
        self.synchronous_mode = dcs.pop('synchronous_mode')
        # nodes and the file of passwords are ours
        conninfo = re.sub(r'host=\S+', self.hosts(), parameters.pop('tcs.primary_conninfo'))
        self.primary_conninfo = re.sub(r'passfile=\S+', 'passfile=' + passfile, conninfo)
        parameters['tcs.max_staleness'] = f'{BOUND}s'
        if not self.tcs:
            for name in [n for n in parameters if n.startswith('tcs.')] + ['shared_preload_libraries']:
                parameters.pop(name)
        parameters.update({'wal_level': 'logical', 'max_wal_senders': NODES, 'fsync': 'off',
                           'log_line_prefix': '%m [%p] %b %a %e '})
        dcs['postgresql'].update({'use_pg_rewind': True, 'use_slots': True})
        dcs.update({'ttl': 12, 'loop_wait': 1, 'retry_timeout': 5})
        return dcs

    def holder(self):
        """Whose the leader's key is, or None."""
        name = self.etcd.get(f'/service/{self.name}/leader')
        return next((n for n in self.nodes if n.name == name), None)

    def leader(self):
        found = self.holder()
        if not found:
            raise LookupError(f'{self.name} has no leader')
        return found

    def standbys(self):
        leader = self.leader()
        return [n for n in self.nodes if n is not leader]

    def patch(self, change):
        self.leader().rest('PATCH', 'config', change)

    def bootstrap(self):
        dcs = self.settings()
        began = time.monotonic()
        for node in self.nodes:
            node.configure(dcs)
            node.start()
            # one after the other: there is no room for two pg_basebackup
            poll(f'{node.name} is there', lambda: node is self.holder() or node.name in self.streams())
        leader = self.leader()
        self.version = int(json.loads(leader.rest('GET', 'patroni'))['patroni']['version'].split('.')[0])
        leader.query(f"CREATE ROLE app LOGIN PASSWORD '{password['app']}'; CREATE TABLE t (v int);"
                     'INSERT INTO t VALUES (0); GRANT ALL ON t TO app')
        # only now, as standbys have to have the WAL from where the slot begins
        self.patch({'slots': {SLOT: {'type': 'logical', 'database': 'postgres', 'plugin': 'test_decoding'}}})
        self.consume()
        self.write(leader)
        self.whole()
        self.say(f'is up under Patroni {self.version} after {time.monotonic() - began:.1f} s, leader {leader.name}')

    def hosts(self):
        """All nodes, as part of a connection string."""
        return 'host={} port={}'.format(','.join('127.0.0.1' for _ in self.nodes),
                                        ','.join(str(n.port) for n in self.nodes))

    def consume(self):
        """Keeps a consumer of the slot running; pg_recvlogical gives up when it is refused."""
        command = [os.path.join(bindir, 'pg_recvlogical'), '--start', '--no-loop', '--slot', SLOT,
                   '--fsync-interval', '0', '--status-interval', '1', '--file', log_path(self.name + '-feed'),
                   '--dbname', f'{self.hosts()} user=replicator dbname=postgres passfile={passfile}'
                               ' target_session_attrs=read-write connect_timeout=5']

        def run():
            while True:
                start(self.name + '-consumer', command).wait()
                time.sleep(1)
        threading.Thread(target=run, daemon=True).start()

    # what has to be true again

    def streams(self):
        """Who streams from the leader, with the connection's beginning."""
        return dict(self.leader().query(
            "SELECT application_name, backend_start::text FROM pg_stat_replication WHERE state = 'streaming'"))

    def whole(self):
        names = {n.name for n in self.standbys()} | {'pg_recvlogical'}
        poll(f'{", ".join(sorted(names))} stream', lambda: names <= set(self.streams()))
        for node in self.nodes:
            poll(f'{node.name} has the slot, advanced to {self.written}', lambda: node.query(
                f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
                f" AND confirmed_flush_lsn >= '{self.written}'"))


    def feed_has(self, value):
        with open(log_path(self.name + '-feed')) as file:
            return f'v[integer]:{value}\n' in file.read()

    # what is done

    def write(self, leader):
        """A write that has been acknowledged, and where it ended."""
        leader.query(f'UPDATE t SET v = {self.value + 1}', user='app')
        self.value += 1
        self.written = leader.query('SELECT pg_current_wal_lsn()')[0][0]

    def check_reads(self, must):
        """Fresh reads on every standby; unless they must be served, they may be refused."""
        def read(node, level):
            try:
                found = node.query('SELECT v FROM t', user='app', options=level)[0][0]
            except psycopg2.Error as e:
                if must or not (e.pgcode or '').startswith('TC'):
                    raise
                return True
            if found != self.value:
                raise Failed(f'{node.name} has read {found}, not {self.value}, at {level or "the standing level"}')
            return True

        self.write(self.leader())
        for level in ('strong', 'linearizable') if self.synchronous_mode == 'quorum' else ('strong',):
            for node in self.standbys():
                poll(f'{node.name} serves {level}', lambda: read(node, f'-c tcs.read_level={level}'))
        # `bounded` has to show what is older than its bound
        self.write(self.leader())
        time.sleep(BOUND)
        for node in self.standbys():
            poll(f'{node.name} serves bounded', lambda: read(node, ''))

    def ask_by(self, connection):
        """tcs.primary_conninfo for the workers, or none."""
        conninfo = self.primary_conninfo if connection else None
        self.patch({'postgresql': {'parameters': {'tcs.primary_conninfo': conninfo}}})
        for node in self.nodes:
            poll(f'{node.name} has been told', lambda: connection == bool(
                node.query("SELECT current_setting('tcs.primary_conninfo', true)")[0][0]))

    def synchronous(self):
        if self.version >= 4:
            self.synchronous_mode = 'quorum'
        self.patch({'synchronous_mode': self.synchronous_mode})

        # who may be promoted is written down after the server has been told
        def agreed():
            names = (json.loads(self.etcd.get(f'/service/{self.name}/sync') or '{}').get('sync_standby') or '').split(',')
            return len([n for n in names if n]) == (NODES - 1 if self.synchronous_mode == 'quorum' else 1)
        poll('synchronous standbys', agreed)

    def fail_over(self, number):
        by_connection = self.tcs and number % 2 == 0
        if self.tcs:
            self.ask_by(by_connection)
        if number == rounds:
            self.synchronous()
        self.whole()

        old = self.leader()
        self.write(old)
        began = time.monotonic()
        old.kill()
        poll('the key of the leader expires', lambda: self.holder() is not old)
        expired = time.monotonic()
        new = self.take_over(old)
        written = time.monotonic()
        old.start()
        self.whole()
        back = time.monotonic()
        times = (written - began, written - expired, back - written)
        self.times.append(times)
        self.after(by_connection)
        self.say(f'round {number}, {old.name} -> {new.name}:  written after {times[0]:5.1f} s'
                 f' ({times[1]:4.1f} s after the key expired), whole {times[2]:5.1f} s later')

    def take_over(self, old):
        """Waits for a leader that takes a write, and returns it."""
        def look():
            for node in self.nodes:
                if node is not old:
                    try:
                        if node.query('SELECT pg_is_in_recovery()')[0][0]:
                            continue
                        found = node.query('SELECT v FROM t', user='app')[0][0]
                        if found != self.value:
                            raise Failed(f'{node.name} has {found}, but {self.value} was acknowledged')
                        self.write(node)
                        return node
                    except psycopg2.Error:
                        pass
            return None
        return poll('a new leader takes a write', look)

    def after(self, by_connection):
        """Slot and streams are there, and stay; reads are right."""
        leader = self.leader()
        if not leader.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND active"):
            raise Failed(f'{leader.name}: the slot {SLOT} has no consumer')
        value = self.value
        poll('the consumer has the write', lambda: self.feed_has(value))
        if not self.tcs:
            return
        streams = self.streams()
        self.check_reads(must=by_connection)
        if not by_connection:
            self.ask_by(True)
            self.check_reads(must=True)
        if self.streams() != streams:
            raise Failed(f'streams were {streams}, and then {self.streams()}')

    def switch_over(self):
        self.whole()
        old = self.leader()
        # in synchronous mode nobody else is taken
        name = old.query("SELECT application_name FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')")[0][0]
        candidate = next(n for n in self.nodes if n.name == name)
        began = time.monotonic()
        old.rest('POST', 'switchover', {'leader': old.name, 'candidate': candidate.name})
        new = self.take_over(old)
        written = time.monotonic()
        if new is not candidate:
            raise Failed(f'{new.name} was promoted, not {candidate.name}')
        self.whole()
        back = time.monotonic()
        self.after(True)
        self.say(f'switchover, {old.name} -> {new.name}: written after {written - began:5.1f} s,'
                 f' whole {back - written:5.1f} s later')

    def drill(self):
        self.bootstrap()
        for number in range(1, rounds + 1):
            self.fail_over(number)
        self.switch_over()


    def none_refused(self):
        """Patroni was never refused an answer by tcs."""
        for node in self.nodes:
            with open(log_path(node.name)) as file:
                for line in file:
                    if ' Patroni TC' in line:
                        raise Failed(f'{node.name} has refused Patroni: {line.strip()}')


def run(cluster):
    try:
        cluster.drill()
        cluster.none_refused()
    except Exception as e:
        cluster.failure = str(e) if isinstance(e, Failed) else repr(e)
        cluster.say('FAILED: ' + cluster.failure)


def show_logs(cluster):
    for name in [n.name for n in cluster.nodes] + [cluster.name + '-consumer']:
        if not os.path.exists(log_path(name)):
            continue
        print(f'--- the end of {name}.log')
        with open(log_path(name)) as file:
            lines = [line for line in file if ' INFO: no action' not in line and ' INFO: Lock owner' not in line]
        print(''.join('    ' + line[:250].rstrip() + '\n' for line in lines[-15:]), end='')


def report(clusters):
    """Prints medians; whether all is well."""
    for cluster in clusters:
        if cluster.failure:
            show_logs(cluster)
    for cluster in clusters:
        print(f'{cluster.name} tcs: {len(cluster.times)} of {rounds} failovers passed' +
              (f'; FAILED: {cluster.failure}' if cluster.failure else ''))
    if any(c.failure for c in clusters):
        return False

    good = True
    for i, what in enumerate(('until a write', 'of it after the key', 'until all is whole')):
        medians = [statistics.median(t[i] for t in c.times) for c in clusters]
        print(f'{what}: median {medians[0]:.1f} s with tcs, {medians[1]:.1f} s without,'
              f' ratio {medians[0] / medians[1]:.2f}')
        if what == 'until a write' and medians[0] > 2 * medians[1]:
            print('FAILED: with tcs the failover takes more than twice as long')
            good = False
    return good


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    etcd = None
    try:
        etcd = Etcd()
        clusters = [Cluster('with', etcd, True), Cluster('without', etcd, False)]
        threads = [threading.Thread(target=run, args=(c,), daemon=True) for c in clusters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 0 if report(clusters) else 1
    finally:
        for process in started:
            process.kill()


status = main()
sys.stdout.flush()
os._exit(status)
