# test/t/015_without_token.pl
#
# tcs.without_token: what a standby does at the levels that go by the token, in a
# session that was handed none.  Replay is paused behind a write, so what is read
# as at "strong" is refused with TC001, and what asks for nothing is stale.

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
my @by_token = qw(read_your_writes monotonic_reads session sequential causal snapshot);
my $read = 'SELECT v FROM t';

$primary->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (1)');
my $reached = write_token($primary, 'UPDATE t SET v = 2');

wait_for_replay($primary, $standby);
wait_for_answer($standby);
pause_replay($standby);
my $beyond = write_token($primary, 'UPDATE t SET v = 3');

# The primary was asked, and replay stands still; whether the answer came before
# the wait was over is all the same here.
sub refused_is_refused
{
	my ($state) = @_;

	return $state eq 'TC004' ? 'TC001' : $state;
}

# Of the standby.
sub state_without_token
{
	my ($how, $sql, %opt) = @_;

	$opt{set} = { 'tcs.without_token' => $how, %{ $opt{set} // {} } };
	$opt{fallback} //= 'error';
	my ($state, @rest) = psql_err($standby, $sql, max_wait => 200, max_staleness => '1h', %opt);

	return wantarray ? (refused_is_refused($state), @rest) : refused_is_refused($state);
}

sub session_without_token
{
	my ($how, $more) = @_;

	return TcsWire->new($standby,
		options => "-c tcs.without_token=$how -c tcs.max_wait=200 -c tcs.max_staleness=1h -c tcs.fallback=error " . ($more // ''));
}

sub counts
{
	my ($level) = @_;

	return read_at($standby, "SELECT reads || ' ' || reads_without_token FROM tcs.stat_reads WHERE level = '$level'");
}


##
## Each level
##

is(read_at($standby, 'SHOW tcs.without_token'), 'accept', 'the default');
foreach my $level (@by_token)
{
	is(scalar state_without_token('accept', $read, level => $level), '00000', "accept, $level: served");
	is(scalar state_without_token('strong', $read, level => $level), 'TC001', "strong, $level: as at \"strong\"");
	is(scalar state_without_token('error', $read, level => $level), 'TC005', "error, $level: refused");
	is(scalar state_without_token($_, $read, level => $level, token => $reached), '00000', "$_, $level: with a token")
	  foreach qw(strong error);
	next if $level eq 'snapshot';
	is(scalar state_without_token('strong', "/* tcs($level) */ $read", level => 'eventual'), 'TC001', '... by a hint');
	is(scalar state_without_token('error', "/* tcs($level) */ $read", level => 'eventual'), 'TC005', '... by a hint');
}
foreach my $how (qw(strong error))
{
	is(scalar state_without_token($how, $read, level => $_), '00000', "$how, $_: the token is no matter")
	  foreach qw(eventual consistent_prefix bounded);
	is(scalar state_without_token($how, "/* tcs(eventual) */ $read"), '00000', "$how, a hint that asks for less");
	is(scalar state_without_token($how, $read, token => $beyond), 'TC001', "$how, a token that is not reached");
	is(scalar state_without_token($how, $read, level => 'strong'), 'TC001', "$how, level strong");
	is(psql_err($primary, $read, set => { 'tcs.without_token' => $how }), '00000', "$how, on the primary");
}
{
	my ($state, $err) = state_without_token('strong', $read);

	like($err, qr/handed no token, so this is read as at level "strong"/, 'the error says why');
	($state, $err) = state_without_token('error', $read);
	like($err, qr/ERROR:  TC005: a read at level "session" needs a session token.*HINT: .*SET tcs.session_token/s,
		'... of a read that is refused as well');
}


##
## Every way that a read comes
##

foreach my $sql (
	"PREPARE p AS $read; EXECUTE p",
	"COPY t TO STDOUT",
	"COPY ($read) TO STDOUT",
	"EXPLAIN ANALYZE $read",
	"DO 'BEGIN PERFORM v FROM t; END'",
	"BEGIN; DECLARE c CURSOR FOR $read; FETCH c",
	"BEGIN; $read",
	"BEGIN ISOLATION LEVEL REPEATABLE READ; $read")
{
	is(scalar state_without_token('strong', $sql), 'TC001', "strong: $sql");
	is(scalar state_without_token('error', $sql), 'TC005', "error: $sql");
}
foreach my $sql ('SELECT 1', 'SELECT pg_is_in_recovery()', 'SELECT count(*) FROM pg_stat_activity',
	'SELECT role FROM tcs.status', 'SHOW tcs.read_level', 'BEGIN; SELECT 1; COMMIT')
{
	is(scalar state_without_token($_, $sql), '00000', "$_: $sql needs none") foreach qw(strong error);
}


##
## When a token is there, and when it is gone
##

foreach my $how (qw(strong error))
{
	my $refused = $how eq 'strong' ? 'TC001' : 'TC005';
	my $client = session_without_token($how);
	my $state = sub { return refused_is_refused((($client->query($_[0] // $read))[-1])->{state}) };

	is($state->(), $refused, "$how: no token");
	$client->ok_query("SET tcs.session_token = '$reached'");
	is($state->(), '00000', '... SET');
	is($state->(), '00000', '... and still there');
	is($state->('/* tcs(causal) */ ' . $read), '00000', '... for a hint, too');
	$client->ok_query("SET tcs.session_token = ''");
	is($state->(), $refused, "... SET to ''");
	is($state->('/* tcs(causal) */ ' . $read), $refused, '... for a hint, too');
	$client->ok_query("SET tcs.session_token = '$reached'");
	$client->ok_query('RESET tcs.session_token');
	is($state->(), $refused, '... RESET');
	$client->ok_query("SET tcs.session_token = '$reached'");
	$client->ok_query('RESET ALL');
	is($state->(), $refused, '... RESET ALL');
	$client->ok_query("SET tcs.session_token = '$reached'");
	$client->ok_query('DISCARD ALL');
	is($state->(), $refused, '... DISCARD ALL');
	$client->query("BEGIN; SET tcs.session_token = '$reached'; ROLLBACK");
	is($state->(), $refused, '... SET in a block that is rolled back');
	is($state->("BEGIN; SET LOCAL tcs.session_token = '$reached'; $read"), '00000', '... SET LOCAL');
	$client->query('COMMIT');
	is($state->(), $refused, '... and its end');
	$client->ok_query(q{SET tcs.hints = 'all'});
	is($state->("/* tcs(session_token='$reached') */ $read"), '00000', '... one in a hint');
	is($state->(), $refused, '... is for that statement');
	$client->ok_query('SET tcs.read_level = bounded');
	is($state->(), '00000', '... another level passes');
	is($state->("/* tcs(session) */ $read"), $refused, '... and says nothing of this one');
	$client->ok_query('SET tcs.read_level = eventual');
	is($state->(), '00000', '... nor does "eventual"');
	is($state->("/* tcs(read_your_writes) */ $read"), $refused, '... of any');
	$client->ok_query("SET tcs.without_token = accept");
	is($state->("/* tcs(session) */ $read"), '00000', '... accept');
	is($state->("/* tcs(session) */ $read"), '00000', '... and again');
	$client->ok_query('RESET tcs.without_token');
	is($state->("/* tcs(session) */ $read"), $refused, "... $how again");
	$client->disconnect;

	$client = session_without_token($how, "-c tcs.session_token=$reached");
	is($state->(), '00000', "$how: a token at start-up");
	$client->ok_query('DISCARD ALL');
	is($state->(), '00000', '... which DISCARD ALL returns to');
	$client->disconnect;
}

# What the session has seen here is no token of the client.
{
	my $client = session_without_token('strong', '-c tcs.report_token=all');

	$client->ok_query("/* tcs(bounded) */ $read");
	isnt($client->parameter('tcs.session_token'), '', 'report_token = all: a token of what was seen here');
	is(refused_is_refused((($client->query($read))[0])->{state}), 'TC001', '... does not count as one');
	$client->ok_query("SET tcs.session_token = '$reached'");
	is((($client->query($read))[0])->{state}, '00000', '... one that is handed in does');
	is((($client->query($read))[0])->{state}, '00000', '... also when it was raised');
	$client->disconnect;
}


##
## The steps after it
##

is(scalar state_without_token('strong', $read, fallback => 'bounded, error'), '00000', 'strong: a bound is less');
is(scalar state_without_token('strong', $read, fallback => 'session, error'), 'TC001', '... "session" without a token is no step');
is(scalar state_without_token('strong', $read, fallback => 'eventual'), '00000', '... "eventual" is');
is(scalar state_without_token('error', $read, fallback => 'bounded, eventual'), 'TC005', 'error: nothing else is tried');
foreach my $level (qw(session eventual))
{
	$standby->safe_psql('postgres', "SELECT tcs.relax('$level', duration => '1h', reason => 'test')");
	foreach my $how (qw(strong error))
	{
		my ($state, $err, $out) = state_without_token($how, $read);

		is("$state $out", '00000 2', "$how: the emergency valve, open at $level");
		like($err, qr/WARNING/, '... with a warning');
		is(scalar state_without_token($how, "$read; /* tcs(session) */ $read"), '00000', '... a hint as well');
	}
	is(scalar state_without_token('strong', $read, level => 'strong'), '00000', '... level strong comes down to it');
	$standby->safe_psql('postgres', 'SELECT tcs.relax_end()');
}
is(scalar state_without_token('strong', $read), 'TC001', '... and closed');
foreach my $case ([ accept => 't' ], [ strong => 'f' ], [ error => 'f' ])
{
	my ($how, $can) = @$case;

	is(read_at($standby, "SELECT tcs.can_serve('session')", set => { 'tcs.without_token' => $how }),
		$can, "tcs.can_serve(): $how");
}


##
## Counted
##

$standby->safe_psql('postgres', 'SELECT tcs.stat_reads_reset()');
read_at($standby, "$read; $read", set => { 'tcs.without_token' => 'accept' });
is(counts('session'), '2 2', 'reads without a token are counted');
read_at($standby, "$read; $read; $read", token => $reached);
is(counts('session'), '5 2', '... of those with one');
read_at($standby, "/* tcs(causal, session_token='$reached') */ $read; /* tcs(causal) */ $read", set => { 'tcs.hints' => 'all' });
is(counts('causal'), '2 1', '... a hint has its own');
state_without_token('strong', $read);
state_without_token('error', $read);
is(counts('session'), '7 4', '... those that were refused');


##
## Up to date, and redirected
##

resume_replay($standby);
wait_for_replay($primary, $standby);
wait_for_answer($standby);
is(read_at($standby, "SELECT tcs.can_serve('session')", set => { 'tcs.without_token' => 'strong' }),
	't', 'tcs.can_serve(): strong, up to date');
is((state_without_token('strong', "$read; $read"))[2], "3\n3", 'strong: the newest row after a question');
redirect_to($primary);
wait_for_replay($primary, $standby);
pause_replay($standby);
write_token($primary, 'UPDATE t SET v = 4');
is((state_without_token('strong', $read, fallback => 'redirect, error'))[2], '4', 'strong: redirected');
is(scalar state_without_token('error', $read, fallback => 'redirect, error'), 'TC005', 'error: not redirected');
{
	my $client = session_without_token('strong', '-c tcs.fallback=redirect');

	is($client->ok_query($read), '4', 'a redirected read');
	write_token($primary, 'UPDATE t SET v = 5');
	is($client->ok_query($read), '5', '... hands in no token for the next one');
	$client->disconnect;
}

done_testing();
