# test/t/235_primary_gone.pl
#
# While the primary is known to be gone, a read that needs its answer does not
# wait for its whole tcs.max_wait, but for tcs.max_wait_unknown.  Reads are given an
# hour here: where they end, nobody has waited for that.  One read at a time waits
# as ever, so that the primary is noticed when it is back.  Who waits for replay, or
# for ever, is not concerned.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my ($primary, $standby) = new_pair();
my $read = 'SELECT v FROM t';
my @hour = (max_wait => '1h');
# replay is paused, so the worker does not wait for a WAL receiver, and tries to connect
my $gone = qr/TC004.*The primary has given no usable answer for [0-9]+ s: connection to server .* failed/s;

$primary->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (0)');
wait_for_replay($primary, $standby);
wait_for_answer($standby);

# Milliseconds that a refused read says it has waited.
sub waited
{
	my ($err) = @_;

	return $err =~ /has waited ([0-9]+) ms/ ? $1 : -1;
}

# Reads at strong until one is not refused at once, but waits.
sub start_probe
{
	for (1 .. 1000)
	{
		my $read_on = start_read($standby, $read, level => 'strong', @hour);

		$standby->poll_query_until(
			'postgres',
			qq{SELECT waiting_sessions > 0 OR
				NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $read_on->{pid}) FROM tcs.status})
		  or die 'a read neither waits nor ends';
		return $read_on
		  if $standby->safe_psql('postgres', 'SELECT waiting_sessions FROM tcs.status') > 0;
		is((finish_read($read_on))[0], 'TC004', 'before a read waits, others are refused');
	}
	die 'no read has waited';
}

# WAL that has come and waits to be replayed.
pause_replay($standby);
my $token = write_token($primary, 'UPDATE t SET v = 1');

$standby->poll_query_until('postgres',
	"SELECT pg_last_wal_receive_lsn() >= '" . current_lsn($primary) . "'")
  or die 'the write was not received';
$primary->stop('immediate');

# A read that was there before the primary was known to be gone.
my ($state, $out, $err) = finish_read(start_read($standby, $read, level => 'strong', @hour));

is($state, 'TC004', 'a read that waits when the primary goes is refused');
like($err, qr/The primary has given no usable answer for [0-9]+ s: /, '... and told why');

# Another one keeps others from waiting.
my $probe = start_probe();

foreach my $opt (
	[ strong => level => 'strong' ],
	[ bounded => level => 'bounded', max_staleness => '1ms' ],
	[ linearizable => level => 'linearizable' ],
	[ 'a bound in bytes' => level => 'bounded', max_staleness => '1ms', max_lag => '1MB' ],
	[ 'no token' => set => { 'tcs.without_token' => 'strong' } ])
{
	my ($what, @opt) = @$opt;

	($state, $err) = psql_err($standby, $read, @opt, @hour);
	is($state, 'TC004', "$what is refused");
	like($err, $gone, '... and told why');
}
($state, $err) = psql_err($standby, "/* tcs(strong, max_wait=1h) */ $read");
is($state, 'TC004', 'so is what a hint asks for');
($state, $err) = psql_err($standby, "BEGIN ISOLATION LEVEL REPEATABLE READ;\n$read", level => 'strong', @hour);
is($state, 'TC004', '... and a transaction whose BEGIN would wait');
($state, $err, $out) = psql_err($standby, "$read;\n$read;\n$read", level => 'strong',
	fallback => 'redirect, eventual', @hour);
is("$state $out", "00000 0\n0\n0", 'tcs.fallback is next');
is(() = $err =~ /TC004: read served at level "eventual" instead of "strong"/g, 3, '... each time');

# How long, then.
($state, $err) = psql_err($standby, $read, level => 'strong', @hour,
	set => { 'tcs.max_wait_unknown' => '300ms' });
is($state, 'TC004', 'tcs.max_wait_unknown: strong is refused');
cmp_ok(waited($err), '>=', 300, '... after that');
($state, $err) = psql_err($standby, $read, level => 'strong', max_wait => '300ms',
	set => { 'tcs.max_wait_unknown' => -1 });
is($state, 'TC004', 'tcs.max_wait_unknown = -1: strong is refused');
cmp_ok(waited($err), '>=', 300, '... after tcs.max_wait');
($state, $err) = psql_err($standby, $read, level => 'strong', max_wait => '300ms',
	set => { 'tcs.max_wait_unknown' => '1h' });
is($state, 'TC004', 'tcs.max_wait_unknown above tcs.max_wait: strong is refused');
cmp_ok(waited($err), '>=', 300, '... after tcs.max_wait');

# Not concerned: who waits for replay, or for ever.
my $patient = start_read($standby, $read, level => 'strong', max_wait => -1);
my $session = start_read($standby, $read, token => $token, @hour);

wait_for_waiters($standby, 3);
resume_replay($standby);
is(finish_read($session), 1, 'a token is waited for');
ok(read_running($probe), 'the one read waits on');
ok(read_running($patient), 'tcs.max_wait = -1 waits on');

$primary->start;
is(finish_read($probe), 1, 'the primary is back: the one read is served');
is(finish_read($patient), 1, '... and who has waited for ever');
is(read_at($standby, $read, level => 'strong', max_wait => '180s'), 1, '... and reads to come');

done_testing();
