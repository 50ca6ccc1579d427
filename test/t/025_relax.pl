# test/t/025_relax.pl
#
# The emergency valve, tcs.relax(): on one node and for a time, reads that ask for
# more than a level, and would have to wait for it, are served at it with a
# warning, also those that wait already; floors of hard rules are kept.
# Replay of the standby is paused, so that what asks for a token is refused.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $s1, $s2) = new_cluster(standbys => 2);

$primary->safe_psql('postgres', q{
CREATE TABLE t (v int);
CREATE TABLE soft (v int);
CREATE TABLE hard (v int);
CREATE ROLE web LOGIN;
GRANT pg_read_all_data TO web;
CREATE FUNCTION reads_t() RETURNS bigint LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN (SELECT count(*) FROM t) + (SELECT count(*) FROM soft); END$$;
SELECT tcs.set_rule('soft', 'strong', floor => 'session');
SELECT tcs.set_rule('hard', 'strong', floor => 'session', hard => true);
});
wait_for_replay($primary, $_) foreach ($s1, $s2);
pause_replay($_) foreach ($s1, $s2);
my $token = write_token($primary, 'INSERT INTO t VALUES (1)');

sub refused_behind
{
	my ($node, $table, $what) = @_;

	is(psql_err($node, "SELECT * FROM $table", token => $token, max_wait => 0), 'TC001', $what);
	return;
}

sub served_relaxed
{
	my ($node, $table, $what) = @_;
	my ($state, $err, $out) = psql_err($node,
		"SELECT * FROM $table; SELECT level, concat_ws(' ', level_source, rule_id), outcome, served_level, reason FROM tcs.last_read",
		token => $token, max_wait => 0);

	is($state, '00000', $what) or diag $err;
	like((split /\n/, $out)[-1],
		qr/^(session\|(built-in default|default)|strong\|rule \d+)\|downgraded\|eventual\|relaxed$/,
		'... which tcs.last_read says');
	like($err, qr/WARNING:.*read served at level "eventual" instead of "(session|strong)"/,
		'... and the client is told');
	return;
}


##
## Who may, and what may not be
##

is(psql_err($s1, $_->[0], user => 'web'), $_->[1], "web: $_->[0]")
  foreach (
	[ q{SELECT tcs.relax('eventual', '1min', 'x')}, '42501' ],
	[ 'SELECT tcs.relax_end()', '42501' ],
	[ 'SELECT * FROM tcs.relaxed', '00000' ]);
is(psql_err($s1, $_), '22023', $_)
  foreach (
	q{SELECT tcs.relax('nonsense', '1min', 'x')},
	q{SELECT tcs.relax('snapshot', '1min', 'x')},
	q{SELECT tcs.relax('linearizable', '1min', 'x')},
	q{SELECT tcs.relax('eventual', '0', 'x')},
	q{SELECT tcs.relax('eventual', '-1min', 'x')},
	q{SELECT tcs.relax('eventual', '2 days', 'x')},
	q{SELECT tcs.relax('eventual', '1min', ' ')});
is(psql_err($s1, "SELECT tcs.relax($_)"), '22004', "relax($_)")
  foreach (q{NULL, '1min', 'x'}, q{'eventual', NULL, 'x'}, q{'eventual', '1min', NULL});
is(read_at($s1, 'SELECT level IS NULL, reads FROM tcs.relaxed'), 't|0', 'nothing is in force');
refused_behind($s1, $_, "not relaxed: $_") foreach ('t', 'soft', 'hard');


##
## Opened, on one node, with reads that wait already
##

my $waiter = TcsWire->new($s1, options => '-c tcs.max_wait=-1');

$waiter->ok_query("SET tcs.session_token = '$token'");
$waiter->simple('SELECT count(*) FROM t')->flush;
wait_for_waiters($s1, 1);
my $log = log_position($s1);
is(read_at($s1, q{SELECT tcs.relax('eventual', duration => '1h', reason => 'the primary burns')}), '', 'opened');
is(TcsWire::describe_result($waiter->results), '0', 'a read that waits is let go');
is($waiter->ok_query('SELECT level, outcome, served_level, reason, wait_time > 0 FROM tcs.last_read'),
	'session|downgraded|eventual|relaxed|t', '... and is told');
like(join('', map { $_->{M} // '' } $waiter->notices), qr/"eventual" instead of "session"/, '... by a warning');
$waiter->disconnect;

served_relaxed($s1, $_, "relaxed: $_") foreach ('t', 'soft');
is(psql_err($s1, 'SELECT * FROM t', token => $token, level => $_, max_wait => 0), '00000', "relaxed: $_")
  foreach ('read_your_writes', 'session', 'bounded', 'strong', 'linearizable');
is(psql_err($s1, "/* tcs(strong) */ SELECT * FROM t", token => $token, max_wait => 0), '00000', 'relaxed: a hint');
refused_behind($s1, 'hard', 'a hard floor is kept');
is( read_at($s1, q{SELECT level || ' ' || concat_ws(' ', level_source, rule_id) FROM tcs.explain_level('SELECT * FROM hard')}),
	'session relaxed', '... at its own level');
refused_behind($s1, 't, hard', '... also beside a table without');

# what is there without a wait is served as ever
my $reads = read_at($s1, 'SELECT reads FROM tcs.relaxed');
is( read_at($s1, 'SELECT count(*) FROM t; SELECT level, outcome FROM tcs.last_read'),
	"0\nsession|served", 'a read that need not wait gets what it asks for');
is(read_at($s1, 'SELECT reads FROM tcs.relaxed'), $reads, '... and is not counted');

# one statement is one warning and one read, whatever its functions read
my ($state, $err) = psql_err($s1, 'SELECT reads_t() FROM generate_series(1, 3)', token => $token, max_wait => 0);
is($state, '00000', 'relaxed: a function') or diag $err;
is(scalar(() = $err =~ /WARNING/g), 1, '... with one warning');
is(read_at($s1, 'SELECT reads FROM tcs.relaxed'), $reads + 1, '... and one read');
is( read_at($s1, q{SELECT reads > 0 FROM tcs.stat_downgrades WHERE level = 'session' AND served_level = 'eventual' AND reason = 'relaxed'}),
	't', 'tcs.stat_downgrades counts them');

# every kind of statement
is(psql_err($s1, $_, token => $token, max_wait => 0), '00000', "relaxed: $_")
  foreach (
	'BEGIN; SELECT * FROM t; COMMIT',
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t; SELECT * FROM soft; COMMIT',
	'SET tcs.read_level = snapshot; SELECT * FROM t; SELECT * FROM soft',
	'SET tcs.read_level = snapshot; BEGIN; SELECT * FROM t; SELECT * FROM soft; COMMIT',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; FETCH c; COMMIT',
	'PREPARE p AS SELECT * FROM t; EXECUTE p; EXECUTE p',
	'COPY t TO STDOUT', 'EXPLAIN ANALYZE SELECT * FROM t',
	'DO $$BEGIN PERFORM count(*) FROM t; END$$');
is(read_at($s1, 'SELECT waiting_sessions FROM tcs.status'), '0', 'nobody waits');
refused_behind($s2, 't', 'the other standby goes on as ever');
is( read_at($s1, q{SELECT level, reason, role = session_user, reads > 5, until > now() FROM tcs.relaxed}),
	'eventual|the primary burns|t|t|t',
	'tcs.relaxed');
like(log_since($s1, $log),
	qr/reads that would wait for more than level "eventual" are served at it for 3600 s, as set by .*\n.*Reason: the primary burns/,
	'the log has it');

read_at($s1, q{SELECT tcs.relax('eventual', '1h', repeat('ä', 300))});
is(read_at($s1, q{SELECT repeat('ä', 300) LIKE reason || '%' AND octet_length(reason) BETWEEN 254 AND 255 FROM tcs.relaxed}), 't',
	'a long reason is cut between characters');

# the valve's own level is waited for
read_at($s1, q{SELECT tcs.relax('session', '1h', 'test')});
refused_behind($s1, 't', 'relaxed to session, a read at session');
is( psql_err($s1, 'SELECT * FROM t', level => 'strong', max_wait => 0), '00000',
	'... and one at strong, whose session has no token');
read_at($s1, q{SELECT tcs.relax('eventual', '1h', 'the primary burns')});


##
## Ended: by hand, by itself, by a crash
##

is(read_at($s1, 'SELECT tcs.relax_end()'), 't', 'ended by hand');
refused_behind($s1, $_, "as before: $_") foreach ('t', 'soft');
is(read_at($s1, 'SELECT tcs.relax_end()'), 'f', '... once');

$log = log_position($s1);
read_at($s1, q{SELECT tcs.relax('session', '300ms', 'for a moment')});
$s1->poll_query_until('postgres', 'SELECT level IS NULL FROM tcs.relaxed');
like(log_since($s1, $log), qr/own levels again, the time is over/, 'it ends by itself, and says so');
refused_behind($s1, 't', '... and reads are refused again');

read_at($s1, q{SELECT tcs.relax('eventual', '1h', 'until the crash')});
$s1->stop('immediate');
$s1->start;
is(read_at($s1, 'SELECT level IS NULL FROM tcs.relaxed'), 't', 'a restart forgets it');


##
## On the primary, where there is little to relax
##

read_at($primary, q{SELECT tcs.relax('session', '1h', 'test')});
is(psql_err($primary, 'SELECT * FROM t', level => 'linearizable'), '00000',
	'linearizable without a quorum, relaxed on the primary');
read_at($primary, 'SELECT tcs.relax_end()');
is(psql_err($primary, 'SELECT * FROM t', level => 'linearizable'), '55000', '... and after it');


##
## Reads that wait for a quorum, on both sides, and for a commit
##

resume_replay($_) foreach ($s1, $s2);
set_quorum($primary, 'ANY 1 (standby1, standby2)', 2);
wait_for_answer($_) foreach ($s1, $s2);
is(read_at($_, 'SELECT count(*) FROM t', level => 'linearizable', max_wait => '60s'), '1',
	$_->name . ': linearizable') foreach ($primary, $s1);
stop_receiver($_) foreach ($s1, $s2);

foreach my $node ($s1, $primary)
{
	my $name = $node->name;
	my $read = TcsWire->new($node, options => '-c tcs.max_wait=-1 -c tcs.read_level=linearizable');
	my $pid = $read->pid;

	$read->simple('SELECT count(*) FROM t')->flush;
	$node->poll_query_until('postgres',
		"SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid");
	read_at($node, q{SELECT tcs.relax('session', '1h', 'no quorum')});
	is(TcsWire::describe_result($read->results), '1', "$name: a linearizable read that waits is let go");
	is( $read->ok_query('SELECT level, outcome, served_level, reason FROM tcs.last_read'),
		'linearizable|downgraded|session|relaxed', '... and is told');
	read_at($node, 'SELECT tcs.relax_end()');
	$read->disconnect;
}
continue_receiver($_) foreach ($s1, $s2);

done_testing();
