# test/t/100_gate_paths.pl
#
# Every way in which a client can read passes the gate.  For each of them, on a
# standby whose replay stands still behind a write: at eventual the old row is
# read (so the path can be stale, and the gate is what decides); with the token
# of the write the statement waits, and shows the new row when replay goes on;
# the same at strong without a token.  Once more with tcs.enabled = off: the
# token is there, and the old row is read on every path.  What reads nothing
# that can be stale answers at once, also where freshness cannot be had; what
# only looks harmless does not.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsPaths;
use TcsTest;
use TcsWire;
use TcsWrites;

my ($primary, $standby) = new_pair();
my $version = server_version($primary);
my $writer = TcsWire->new($primary);
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

# t has the number of the last write, log a row for each of them.
$writer->ok_query(
	q{
CREATE TABLE t (a int PRIMARY KEY, v int);
CREATE TABLE log (n int);
CREATE TABLE wide (a int, v int);
INSERT INTO t VALUES (1, 0);
INSERT INTO wide SELECT g, 0 FROM generate_series(1, 3000) g;
ANALYZE;
CREATE VIEW t_view AS SELECT v FROM t;
CREATE FUNCTION f_volatile() RETURNS int LANGUAGE plpgsql VOLATILE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_stable() RETURNS int LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
-- a lie, and a common one
CREATE FUNCTION f_immutable() RETURNS int LANGUAGE plpgsql IMMUTABLE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_inlined() RETURNS int LANGUAGE sql STABLE
	AS 'SELECT v FROM t';
CREATE FUNCTION f_wrapped() RETURNS int LANGUAGE sql STABLE
	AS 'SELECT f_immutable()';
CREATE VIEW t_folded AS SELECT f_immutable();
CREATE FUNCTION f_atomic() RETURNS int LANGUAGE sql STABLE
	BEGIN ATOMIC SELECT * FROM t_folded; END;
CREATE FUNCTION f_deep() RETURNS int LANGUAGE sql STABLE
	AS 'SELECT f_atomic()';
CREATE FUNCTION f_wrapped_rows() RETURNS SETOF int LANGUAGE sql STABLE
	AS 'SELECT f_immutable()';
CREATE TYPE mood AS ENUM ('fine');
CREATE DOMAIN looked_up AS text CHECK (f_volatile() > 0);
CREATE FUNCTION f_rows() RETURNS SETOF int LANGUAGE plpgsql
	AS 'BEGIN RETURN QUERY SELECT v FROM t; END';
CREATE FUNCTION f_weaker() RETURNS int LANGUAGE plpgsql
	SET tcs.read_level = 'eventual'
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_strong() RETURNS int LANGUAGE plpgsql
	SET tcs.read_level = 'strong'
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_set_weaker() RETURNS int LANGUAGE plpgsql
	AS $$BEGIN
		PERFORM set_config('tcs.read_level', 'eventual', true);
		RETURN (SELECT v FROM t);
	END$$;
CREATE FUNCTION f_set_token(token text) RETURNS int LANGUAGE plpgsql
	AS $$BEGIN
		PERFORM set_config('tcs.session_token', token, false);
		RETURN (SELECT v FROM t);
	END$$;
CREATE FUNCTION f_set_level(level text) RETURNS int LANGUAGE plpgsql
	AS $$BEGIN
		PERFORM set_config('tcs.read_level', level, false);
		RETURN (SELECT v FROM t);
	END$$;
CREATE PROCEDURE p_read(INOUT result int) LANGUAGE plpgsql
	AS 'BEGIN result := (SELECT v FROM t); END';
});

my $lo = $writer->ok_query(q{SELECT lo_from_bytea(0, '00000')});

my $v = 0;

# The next write.
my $write_next = counted_write(\$v, sprintf
	q{UPDATE t SET v = %%1$d; INSERT INTO log VALUES (%%1$d);
		UPDATE wide SET v = %%1$d WHERE a = 1;
		COMMENT ON TABLE log IS '%%1$d'; SELECT lo_put(%s, 0, '%%1$05d')}, $lo);

my @paths = gate_paths($writer, $lo, $version);

$write_next->($writer);
wait_for_replay($primary, $standby);
wait_for_answer($standby);

foreach my $path (@paths)
{
	my $name = $path->{name};

  SKIP:
	{
		skip "$name: not in this build", 1 if $path->{skip};

		my $c = connect_for($path, $standby);
		my $token;

		$look->stop_replay;
		$token = $write_next->($writer);
		start_path($path, $c, settings('eventual', $token));
		is(end_path($path, $c), $v - 1, "$name: eventual reads what is there");

		start_path($path, $c, settings('session', $token));
		$look->wait_until_held($c);
		$look->go_on;
		is(end_path($path, $c), $v, "$name: the token's write is read");

		$look->stop_replay;
		$write_next->($writer);
		start_path($path, $c, settings('strong', ''));
		$look->wait_until_held($c);
		$look->go_on;
		is(end_path($path, $c), $v, "$name: strong reads what is acknowledged");
		$c->disconnect;
	}
}


##
## Functions that ask for more than the statement that calls them
##

my $c = TcsWire->new($standby);
my ($result, $token);

wait_for_replay($primary, $standby);
($result) = $c->query('SELECT f_strong()');
is($result->{state}, '55000', 'a function at strong below a session read');
($result) = $c->query(q{SELECT f_set_level('strong')});
is($result->{state}, '55000', 'a function that sets strong');
is($c->ok_query('SHOW tcs.read_level'),
	'session', 'an error takes back what the function has set');

$look->stop_replay;
$token = $write_next->($writer);
($result) = $c->query("SELECT f_set_token('$token')");
is($result->{state}, '55000', 'a function that sets a token which is ahead');
is($c->ok_query('SELECT v FROM t'), $v - 1, 'nothing of it stays');
$look->go_on;
wait_for_replay($primary, $standby);

# fine where it asks for no more than what its caller was granted
is( $c->ok_query("SET tcs.session_token = '$token'; SELECT f_set_token('$token')"),
	$v, 'a function that sets the token of its caller');
$c->ok_query(q{SET tcs.session_token = ''; SET tcs.read_level = 'strong'});
is($c->ok_query(q{SELECT f_set_level('session')}),
	$v, 'a function that sets a weaker level');
is($c->ok_query('SHOW tcs.read_level'),
	'session', 'which stays, as any setting does');
$c->ok_query(q{SET tcs.read_level = 'strong'});
is($c->ok_query('SELECT f_strong()'), $v, 'a strong function in a strong read');
$c->ok_query('RESET ALL');


##
## Statements that never wait, and some that only look as if
##

$look->stop_replay;
$token = $write_next->($writer);

# The error of a statement, '' without one.
sub failure
{
	my ($sql) = @_;
	my ($failed) = grep { $_->{state} ne '00000' } $look->unheld($c, $sql);

	return $failed ? TcsWire::describe_result($failed) : '';
}

my @exempt = (
	'SELECT 1',
	'SELECT',
	'SELECT now(), version(), 2 + 2, upper(\'a\'), current_user',
	'SELECT pg_is_in_recovery()',
	'SELECT pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()',
	'SELECT pg_get_wal_replay_pause_state()',
	'SELECT count(*) FROM pg_stat_activity',
	'SELECT pid, wait_event FROM pg_stat_activity WHERE pid = pg_backend_pid()',
	'SELECT status FROM pg_stat_wal_receiver',
	'SELECT count(*) FROM pg_stat_get_activity(NULL)',
	'SELECT count(*) FROM pg_locks',
	q{SELECT setting FROM pg_settings WHERE name = 'tcs.read_level'},
	q{SELECT current_setting('tcs.read_level')},
	q{SELECT set_config('tcs.max_wait', '-1', false)},
	'SELECT role, replay_state FROM tcs.status',
	q{SELECT tcs.can_serve('strong')},
	'SELECT * FROM tcs.last_read',
	'SELECT count(*) FROM tcs.stat_reads',
	'SELECT tcs.session_token() IS NULL',
	'SHOW tcs.session_token',
	'BEGIN; SELECT 1; COMMIT',
	'EXPLAIN SELECT v FROM t',
	'EXPLAIN SELECT f_stable()',
	'EXPLAIN SELECT f_inlined()',
	'EXPLAIN CREATE TABLE copy AS SELECT v FROM t',
	'EXPLAIN EXECUTE plain');

$c->ok_query('PREPARE plain AS SELECT v FROM t');
foreach my $level ('strong', 'bounded', 'session')
{
	# BEGIN is for the token; the levels that ask the primary do without
	my $with = $level eq 'session' ? $token : '';

	$c->ok_query(join('; ', settings($level, $with)));
	$c->ok_query(q{SET tcs.max_staleness = 0}) if $level eq 'bounded';
	foreach my $sql (@exempt)
	{
		next if $with ne '' && $sql =~ /^BEGIN/;
		is(failure($sql), '', "$level: never held: $sql");
	}
}

# The same in the extended protocol, and on a generic plan.
$c->ok_query(join('; ', "SET plan_cache_mode = 'force_generic_plan'",
		settings('strong', '')));
$c->parse('s', 'SELECT pg_is_in_recovery()');
$c->bind('', 's')->execute('') foreach (1 .. 3);
my @results = $c->sync->results;
is(join(',', map { TcsWire::describe_result($_) } @results),
	't,t,t', 'never held: a health check that is prepared');

# With no patience, what reads is refused.
my @gated = (
	'SELECT v FROM t',
	'SELECT FROM t',
	'SELECT 1 WHERE EXISTS (SELECT FROM t)',
	'SELECT count(*) FROM pg_class',
	q{SELECT has_table_privilege('t', 'SELECT')},
	q{SELECT pg_get_viewdef('t_view'::regclass)},
	q{SELECT 't'::regclass::text},
	q{SELECT to_regclass('t')},
	'SELECT count(*) FROM pg_stat_user_tables',
	'SELECT count(*) FROM information_schema.tables',
	'SELECT count(*) FROM pg_stat_activity, t',
	'SELECT (SELECT v FROM t) FROM tcs.status',
	'SELECT 1 UNION ALL SELECT v FROM t',
	'VALUES ((SELECT v FROM t))',
	'WITH c AS (SELECT v FROM t) SELECT 1',
	'SELECT FROM (SELECT FROM pg_stat_activity, t OFFSET 0) s',
	'SELECT FROM pg_stat_activity, LATERAL (SELECT v FROM t OFFSET 0) l',
	'SELECT count(*) FROM pg_stat_get_activity((SELECT v FROM t))',
	"SELECT '1'::looked_up",
	"SELECT 1 WHERE '1'::looked_up IS NOT NULL",
	"SELECT v FROM (VALUES ('1'::looked_up)) l(v)",
	'SELECT f_volatile()',
	'SELECT 1 ORDER BY f_volatile()',
	'SELECT 1 LIMIT f_volatile()',
	'SELECT FROM generate_series(1, f_volatile())',
	'SELECT count(*) FROM pg_stat_activity WHERE pid = f_volatile()',
	q{SELECT * FROM ts_stat('SELECT to_tsvector(v::text) FROM t')},
	q{SELECT query_to_xml('SELECT v FROM t', true, true, '')},
	q{SELECT schema_to_xml('public', true, true, '')},
	"SELECT lo_get($lo)",
	"SELECT pg_relation_size('log')",
	q{DO 'BEGIN END'},
	'CALL p_read(0)',
	'EXPLAIN (ANALYZE) SELECT v FROM t',
	# planning runs it, and the plan shows the result
	'EXPLAIN SELECT f_immutable()',
	'EXPLAIN SELECT f_wrapped()',
	'EXPLAIN SELECT f_atomic()',
	'EXPLAIN SELECT f_deep()',
	'EXPLAIN SELECT * FROM f_wrapped_rows()',
	'EXPLAIN SELECT * FROM t_folded',
	'EXPLAIN UPDATE t SET v = f_immutable()',
	'EXPLAIN CREATE TABLE copy AS SELECT f_immutable()',
	'EXPLAIN DECLARE d CURSOR FOR SELECT f_immutable()',
	'EXPLAIN EXECUTE folding',
	'COPY t TO STDOUT');

$c->ok_query('PREPARE folding AS SELECT f_immutable()');
$c->ok_query(join('; ', settings('session', $token), 'SET tcs.max_wait = 0'));
foreach my $sql (@gated)
{
	($result) = $c->query($sql);
	is($result->{state}, 'TC001', "held: $sql");
}

# The plan that EXPLAIN has made is what EXECUTE runs.
$c->ok_query('SET tcs.max_wait = -1');
my $held;
my ($explained, $executed) = $look->release($c, 'EXPLAIN (VERBOSE, COSTS OFF) EXECUTE folding; EXECUTE folding', \$held);
ok($held, 'EXPLAIN waits before its planning reads');
like(TcsWire::describe_result($explained), qr/Output: $v\n?/, '... what it shows then');
is(TcsWire::describe_result($executed), $v, '... and EXECUTE goes on with');

$look->stop_replay;
$token = $write_next->($writer);
$c->ok_query(join('; ', settings('session', $token), 'SET tcs.max_wait = 0'));

# Some values are shown by a name that is read from a catalog, when the row is
# sent: after all planning.
foreach my $expression (
	"'log'::regclass", oid_of('f_volatile()') . '::regprocedure',
	"ARRAY['log'::regclass]", "ROW('log'::regclass)",
	"'fine'::mood")
{
	($result) = $c->query("SELECT $expression");
	is($result->{state}, 'TC001', "held: SELECT $expression");
}


##
## Without the gate
##

# The token stays ahead; it only has nobody who minds.
$c->disconnect;
$standby->append_conf('postgresql.conf', 'tcs.enabled = off');
$standby->reload;
$standby->poll_query_until('postgres',
	q{SELECT current_setting('tcs.enabled') = 'off'})
  or die 'tcs was not switched off';

foreach my $path (@paths)
{
	my $name = $path->{name};

	next if $path->{skip};
	$c = connect_for($path, $standby);
	start_path($path, $c, settings('session', $token));
	is(end_path($path, $c), $v - 1, "$name: stale with the gate taken out");
	$c->disconnect;
}
$look->go_on;

$_->disconnect foreach ($writer, $look);
done_testing();
