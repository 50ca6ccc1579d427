# test/t/084_relax.pl
#
# The emergency valve, tcs.relax(): on one node and for a time, reads above a level
# are served at it, also those that wait already; floors of hard rules are kept.
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
SELECT tcs.set_rule('soft', 'strong', floor => 'session');
SELECT tcs.set_rule('hard', 'strong', floor => 'session', hard => true);
});
wait_for_replay($primary, $_) foreach ($s1, $s2);
pause_replay($_) foreach ($s1, $s2);
my $token = write_token($primary, 'INSERT INTO t VALUES (1)');

sub refused
{
	my ($node, $table, $what) = @_;

	is(psql_err($node, "SELECT * FROM $table", token => $token, max_wait => 0), 'TC001', $what);
	return;
}

sub served
{
	my ($node, $table, $what) = @_;
	my ($state, $err, $out) = psql_err($node,
		"SELECT * FROM $table; SELECT level || ' ' || level_source FROM tcs.last_read()",
		token => $token, max_wait => 0);

	is($state, '00000', $what) or diag $err;
	is((split /\n/, $out)[-1], 'eventual relaxed', '... and said so');
	return;
}


##
## Who may, and what may not be
##

is(psql_err($s1, $_->[0], user => 'web'), $_->[1], "web: $_->[0]")
  foreach (
	[ q{SELECT tcs.relax('eventual', '1min', 'x')}, '42501' ],
	[ 'SELECT tcs.relax_end()', '42501' ],
	[ 'SELECT * FROM tcs.relaxed()', '00000' ]);
is(psql_err($s1, $_), '22023', $_)
  foreach (
	q{SELECT tcs.relax('nonsense', '1min', 'x')},
	q{SELECT tcs.relax('snapshot', '1min', 'x')},
	q{SELECT tcs.relax('linearizable', '1min', 'x')},
	q{SELECT tcs.relax('eventual', '0', 'x')},
	q{SELECT tcs.relax('eventual', '-1min', 'x')},
	q{SELECT tcs.relax('eventual', '2 days', 'x')},
	q{SELECT tcs.relax('eventual', '1min', ' ')});
is(read_at($s1, 'SELECT level IS NULL, reads FROM tcs.relaxed()'), 't|0', 'nothing is in force');
refused($s1, $_, "not relaxed: $_") foreach ('t', 'soft', 'hard');


##
## Opened, on one node, with reads that wait already
##

my $waiter = TcsWire->new($s1, options => '-c tcs.max_wait=-1');

$waiter->ok_query("SET tcs.session_token = '$token'");
$waiter->simple('SELECT count(*) FROM t')->flush;
wait_for_waiters($s1, 1);
my $log = log_position($s1);
is(read_at($s1, q{SELECT tcs.relax('eventual', "for" => '1h', reason => 'the primary burns')}), '', 'opened');
is(TcsWire::describe_result($waiter->results), '0', 'a read that waits is let go');
is($waiter->ok_query('SELECT level_source FROM tcs.last_read()'), 'relaxed', '... and is told');
$waiter->disconnect;

served($s1, $_, "relaxed: $_") foreach ('t', 'soft');
is(psql_err($s1, 'SELECT * FROM t', token => $token, level => $_, max_wait => 0), '00000', "relaxed: $_")
  foreach ('read_your_writes', 'session', 'bounded', 'strong', 'linearizable');
is(psql_err($s1, "/* tcs(strong) */ SELECT * FROM t", token => $token, max_wait => 0), '00000', 'relaxed: a hint');
refused($s1, 'hard', 'a hard floor is kept');
is( read_at($s1, q{SELECT level || ' ' || source FROM tcs.explain_level('SELECT * FROM hard')}),
	'session relaxed', '... at its own level');
refused($s2, 't', 'the other standby goes on as ever');
is( read_at($s1, q{SELECT level, reason, role = session_user, reads > 5, until > now() FROM tcs.relaxed()}),
	'eventual|the primary burns|t|t|t',
	'tcs.relaxed()');
like(log_since($s1, $log), qr/reads above level "eventual" are served at it for 3600 s: the primary burns/,
	'the log has it');


##
## Ended: by hand, by itself, by a crash
##

is(read_at($s1, 'SELECT tcs.relax_end()'), 't', 'ended by hand');
refused($s1, $_, "as before: $_") foreach ('t', 'soft');
is(read_at($s1, 'SELECT tcs.relax_end()'), 'f', '... once');

$log = log_position($s1);
read_at($s1, q{SELECT tcs.relax('session', '300ms', 'for a moment')});
$s1->poll_query_until('postgres', 'SELECT level IS NULL FROM tcs.relaxed()');
like(log_since($s1, $log), qr/own levels again, the time is over/, 'it ends by itself, and says so');
refused($s1, 't', '... and reads are refused again');

read_at($s1, q{SELECT tcs.relax('eventual', '1h', 'until the crash')});
$s1->stop('immediate');
$s1->start;
is(read_at($s1, 'SELECT level IS NULL FROM tcs.relaxed()'), 't', 'a restart forgets it');


##
## On the primary, where there is little to relax
##

read_at($primary, q{SELECT tcs.relax('session', '1h', 'test')});
is(psql_err($primary, 'SELECT * FROM t', level => 'linearizable'), '00000',
	'linearizable without a quorum, relaxed on the primary');
read_at($primary, 'SELECT tcs.relax_end()');
is(psql_err($primary, 'SELECT * FROM t', level => 'linearizable'), '55000', '... and after it');

done_testing();
