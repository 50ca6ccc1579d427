# test/t/155_refused_anyway.pl
#
# What recovery refuses anyway is refused at once, with core's SQLSTATE: poolers
# know a demoted primary by 25006.  On a standby that cannot be fresh enough, and
# where reads wait for ever, such statements neither wait nor read anything on
# their way.  What a standby does run, though it looks like writing, is gated.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();

$primary->safe_psql('postgres', q{
CREATE TABLE t (a int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 1);
CREATE VIEW t_view AS SELECT * FROM t;
CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
CREATE TABLE nothing (a int);
CREATE RULE no_insert AS ON INSERT TO nothing DO INSTEAD NOTHING;
CREATE TABLE loud (a int);
CREATE RULE also AS ON DELETE TO loud DO ALSO SELECT v FROM t;
-- each tells what it has read
CREATE FUNCTION f_immutable() RETURNS int LANGUAGE plpgsql IMMUTABLE
	AS $$BEGIN RAISE NOTICE 'read %', (SELECT v FROM t); RETURN 1; END$$;
CREATE FUNCTION f_volatile() RETURNS int LANGUAGE plpgsql
	AS $$BEGIN RAISE NOTICE 'read %', (SELECT v FROM t); RETURN 1; END$$;
});
wait_for_replay($primary, $standby);
pause_replay($standby);
my $token = write_token($primary, 'UPDATE t SET v = 2');

# All of it in sessions that would wait for ever, at levels of every kind.
sub session_that_waits
{
	my ($level) = @_;
	my $c = TcsWire->new($standby);

	$c->ok_query(join('; ',
		"SET tcs.read_level = '$level'",
		$level eq 'session' ? "SET tcs.session_token = '$token'" : 'SELECT 1',
		'SET tcs.max_wait = -1', "SET statement_timeout = '60s'",
		'PREPARE q_insert AS INSERT INTO t VALUES (f_immutable(), f_volatile())',
		'PREPARE q_update(int) AS UPDATE t SET v = $1',
		'PREPARE q_lock AS SELECT * FROM t FOR UPDATE'));
	return $c;
}

# What read goes by notices.
sub state_and_reads
{
	my ($c, $sql) = @_;
	my $notices = scalar(() = $c->notices);
	my ($failed) = grep { $_->{state} ne '00000' } ref $sql ? $sql->($c) : $c->query($sql);
	my $read = scalar(() = $c->notices) > $notices;

	$c->query('ROLLBACK');
	return ($failed ? $failed->{state} : '00000') . ($read ? ', and has read' : '');
}

# In the extended protocol: parse, bind, execute.
sub extended
{
	my ($sql, @values) = @_;

	return sub { return $_[0]->parse('', $sql)->bind('', '', @values)->execute('')->sync->results; };
}

my @refused = (
	[ '25006', q{INSERT INTO t VALUES (7, 7)} ],
	[ '25006', q{INSERT INTO t SELECT f_immutable(), f_volatile()} ],
	[ '25006', q{INSERT INTO t SELECT * FROM t RETURNING f_volatile()} ],
	[ '25006', q{INSERT INTO t VALUES (1, 1) ON CONFLICT DO NOTHING} ],
	[ '25006', q{INSERT INTO t_view VALUES (1, f_immutable())} ],
	[ '25006', q{UPDATE t SET v = f_immutable()} ],
	[ '25006', q{UPDATE t_view SET v = 3} ],
	[ '25006', q{DELETE FROM t WHERE v = f_immutable()} ],
	[ '25006', q{DELETE FROM loud} ],
	[ '25006', q{MERGE INTO t USING (SELECT f_immutable() a) s ON t.a = s.a WHEN MATCHED THEN DELETE} ],
	[ '25006', q{WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x} ],
	[ '25006', q{WITH x AS (DELETE FROM t RETURNING *) SELECT f_immutable()} ],
	[ '25006', q{SELECT * FROM t FOR UPDATE} ],
	[ '25006', q{SELECT * FROM t FOR KEY SHARE} ],
	[ '25006', q{SELECT f_immutable() FROM t_view FOR SHARE} ],
	[ '25006', q{SELECT * FROM (SELECT * FROM t FOR UPDATE) s WHERE false} ],
	[ '25006', q{SELECT relname FROM pg_class FOR UPDATE} ],
	[ '25006', q{SELECT * INTO z FROM t} ],
	[ '25006', q{CREATE TABLE z AS SELECT f_immutable() FROM t} ],
	[ '25006', q{CREATE TABLE IF NOT EXISTS t AS SELECT f_immutable() FROM t} ],
	[ '25006', q{CREATE TEMP TABLE z AS SELECT * FROM t} ],
	[ '25006', q{CREATE TABLE z AS EXECUTE q_lock} ],
	[ '25006', q{CREATE MATERIALIZED VIEW z AS SELECT * FROM t} ],
	[ '25006', q{REFRESH MATERIALIZED VIEW m} ],
	[ '25006', q{REFRESH MATERIALIZED VIEW CONCURRENTLY m} ],
	[ '25006', q{COPY t FROM STDIN} ],
	[ '25006', q{COPY (INSERT INTO t VALUES (f_immutable(), 1) RETURNING *) TO STDOUT} ],
	[ '25006', q{COPY (SELECT * FROM t FOR UPDATE) TO STDOUT} ],
	[ '25006', q{COPY (WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x) TO STDOUT} ],
	[ '25006', q{EXECUTE q_insert} ],
	[ '25006', q{EXECUTE q_update(f_volatile())} ],
	[ '25006', q{EXECUTE q_lock} ],
	[ '26000', q{EXECUTE q_unknown} ],
	[ '26000', q{EXECUTE q_unknown(f_volatile())} ],
	[ '25006', q{EXPLAIN ANALYZE INSERT INTO t SELECT f_immutable(), f_volatile()} ],
	[ '25006', q{EXPLAIN (ANALYZE, VERBOSE) UPDATE t SET v = f_immutable()} ],
	[ '25006', q{EXPLAIN ANALYZE WITH x AS (DELETE FROM t RETURNING *) SELECT f_immutable()} ],
	[ '25006', q{EXPLAIN ANALYZE SELECT f_immutable() FROM t FOR UPDATE} ],
	[ '25006', q{EXPLAIN ANALYZE CREATE TABLE z AS SELECT f_immutable()} ],
	[ '25006', q{EXPLAIN ANALYZE EXECUTE q_insert} ],
	[ '26000', q{EXPLAIN ANALYZE EXECUTE q_unknown} ],
	[ '26000', q{EXPLAIN ANALYZE CREATE TABLE z AS EXECUTE q_unknown} ],
	[ '25006', extended('INSERT INTO t VALUES ($1, f_immutable())', 7) ],
	[ '25006', extended('SELECT v, f_immutable() FROM t WHERE a = $1 FOR UPDATE', 1) ],
	[ '25006', extended('WITH x AS (UPDATE t SET v = f_immutable() RETURNING v) SELECT * FROM x') ],
	[ '26000', extended('EXECUTE q_unknown') ]);

foreach my $level ('session', 'strong')
{
	my $c = session_that_waits($level);

	foreach (@refused)
	{
		my ($state, $sql) = @$_;
		my $name = ref $sql ? 'extended protocol' : $sql;

		is(state_and_reads($c, $sql), $state, "$level: $name");
	}
}

# In a block: BEGIN does not wait for what only the primary can tell.
my $c = session_that_waits('strong');
foreach my $sql (
	q{DECLARE c CURSOR FOR SELECT f_immutable() FROM t FOR UPDATE},
	q{EXPLAIN ANALYZE DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE},
	q{INSERT INTO t SELECT f_immutable(), f_volatile()},
	q{SAVEPOINT s; UPDATE t SET v = f_immutable()})
{
	is(state_and_reads($c, "BEGIN; $sql"), '25006', "in a block: $sql");
}

# By the name that core has for the plan, which knows of locks at any depth.
my $nested = 'WITH x AS (SELECT * FROM (SELECT v FROM t FOR UPDATE) s) SELECT * FROM x';

foreach my $sql ($nested, "BEGIN; DECLARE c CURSOR FOR $nested", "COPY ($nested) TO STDOUT")
{
	my @results = $c->query($sql);

	is($results[-1]{error}{M}, 'cannot execute SELECT FOR UPDATE in a read-only transaction', "the name of the command: $sql");
	$c->query('ROLLBACK') if $c->status ne 'I';
}

# None of that was a read which was not fresh in time.
is(read_at($standby, q{SELECT sum(timed_out), sum(refused) FROM tcs.stat_reads}), '0|0', 'no refusal is counted');

# What a standby runs has to be fresh, whatever it looks like.
$c->ok_query('SET tcs.max_wait = 0');
foreach my $sql (
	q{SELECT v FROM t, (VALUES (f_volatile())) x FOR UPDATE OF x},
	q{SELECT * FROM (VALUES (f_volatile())) x FOR UPDATE},
	q{MERGE INTO t USING (SELECT f_volatile() a) s ON t.a = s.a WHEN MATCHED THEN DO NOTHING},
	q{EXPLAIN ANALYZE MERGE INTO t USING (SELECT f_volatile() a) s ON t.a = s.a WHEN MATCHED THEN DO NOTHING},
	q{EXPLAIN ANALYZE CREATE TABLE IF NOT EXISTS t AS SELECT f_immutable()},
	q{DO 'BEGIN PERFORM f_volatile(); END'},
	q{COPY (SELECT f_immutable() FROM t) TO STDOUT})
{
	like(state_and_reads($c, $sql), qr/^TC00[14]$/, "gated: $sql");
}
# it runs nothing at all
is(state_and_reads($c, $_), '00000', "a rule leaves nothing to do: $_")
  foreach ('INSERT INTO nothing SELECT f_volatile()', 'EXPLAIN ANALYZE INSERT INTO nothing SELECT f_immutable()');
# and shows what it would do
is(state_and_reads($c, 'EXPLAIN INSERT INTO t VALUES (1, 1)'), '00000', 'EXPLAIN');
is(state_and_reads($c, 'PREPARE q_later AS UPDATE t SET v = 1'), '00000', 'PREPARE');

# With redirection: such statements are not for the primary either.
resume_replay($standby);
redirect_to($primary);
wait_for_replay($primary, $standby);
pause_replay($standby);
$token = write_token($primary, 'UPDATE t SET v = 4');
$c = TcsWire->new($standby);
$c->ok_query("SET tcs.fallback = 'redirect'; SET tcs.session_token = '$token'");
is($c->ok_query('SELECT v FROM t'), '4', 'a read is redirected');
is(state_and_reads($c, $_), '25006', "with redirection: $_")
  foreach ('UPDATE t SET v = 9', 'SELECT v FROM t FOR UPDATE', 'WITH x AS (DELETE FROM t RETURNING v) SELECT v FROM x');
$c->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($c->ok_query('SELECT v FROM t'), '4', 'a transaction is redirected');
is(state_and_reads($c, 'UPDATE t SET v = 9'), '25006', 'in a transaction that runs on the primary: UPDATE');
is(read_at($primary, 'SELECT v FROM t'), '4', 'and nothing was written');
resume_replay($standby);

done_testing();
