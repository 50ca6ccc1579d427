# test/t/315_lost_token.pl
#
# tcs.lost_token = drop: a token that no node can serve any more, since its write
# was lost in a failover or it is of another cluster, goes with a warning.  What came
# with it is read as at "strong", once.  On standby and primary, for reads and
# writes, in blocks, by SET LOCAL and by hint.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my $read = 'SELECT max(v) FROM t';
my ($old, $primary) = new_pair();

# The standby is cut off before a write, and promoted.
my $base = write_token($old, 'CREATE TABLE t (v int); INSERT INTO t VALUES (1)');
wait_for_replay($old, $primary);
$primary->append_conf('postgresql.conf', q{primary_conninfo = ''});
$primary->reload;
$primary->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
  or die 'the WAL receiver did not end';
my $lost = write_token($old, 'INSERT INTO t VALUES (-1)');
$old->stop('immediate');
$primary->promote;
my $kept = write_token($primary, 'INSERT INTO t VALUES (2)');
my $standby = new_standby($primary, 'standby');
wait_for_replay($primary, $standby);
wait_for_answer($standby);

my @fields = (split /\./, $kept)[ 0 .. 7 ];
$fields[1] =~ tr/0-9a-f/1-9a-f0/;
my $foreign = with_check_digits(join('.', @fields));

my %state = ($lost => 'TC003', $foreign => 'TC002');
my $drop = 'SET tcs.lost_token = drop;';

foreach my $token ($lost, $foreign)
{
	my $name = $token eq $lost ? 'a lost token' : 'one of another cluster';

	foreach my $node ($primary, $standby)
	{
		my $where = "$name on " . ($node == $primary ? 'the primary' : 'a standby');

		is(psql_err($node, $read, token => $token), $state{$token}, "$where: refused by default");
		foreach my $level ('read_your_writes', 'session', 'causal', 'snapshot', 'strong')
		{
			my ($state, $err, $out) = psql_err($node, "$drop $read; SHOW tcs.session_token",
				token => $token, level => $level);

			is($state, '00000', "$where, drop, $level: served");
			is($out, "2\n", '... and the token is gone');
			like($err, qr/WARNING:  $state{$token}: .*dropped/, '... with a warning');
		}
		is(psql_err($node, "$drop $read", token => $token, level => 'eventual'),
			'00000', "$where: eventual does not look at it");
		like((psql_err($node, $_, token => $token))[1] // '', qr/WARNING:  $state{$token}/, "$where: $_")
		  foreach (
			"$drop PREPARE p AS $read; EXECUTE p",
			"$drop COPY t TO STDOUT",
			"$drop BEGIN; $read; COMMIT",
			"$drop BEGIN ISOLATION LEVEL REPEATABLE READ; $read; COMMIT",
			"$drop BEGIN; DECLARE c CURSOR FOR $read; COMMIT",
			"$drop EXPLAIN (ANALYZE) $read",
			"$drop DO 'BEGIN PERFORM * FROM t; END'");
		is(psql_err($node, "$drop CALL tcs.wait_for('$token')"),
			$state{$token}, "$where: wait_for() was asked for this one");
		unlike(read_at($node, "$drop $read; SELECT outcome FROM tcs.last_read", token => $token),
			qr/error/, "$where: the read was no failure");

		# by SET LOCAL: what the session had comes back
		my $session = TcsWire->new($node, options => '-c tcs.lost_token=drop -c tcs.hints=all');

		$session->ok_query("SET tcs.session_token = '$kept'");
		$session->ok_query("BEGIN; SET LOCAL tcs.session_token = '$token'");
		is($session->ok_query($read), '2', "$where: SET LOCAL");
		is($session->ok_query('SHOW tcs.session_token'), '', '... is gone in the block');
		$session->ok_query('COMMIT');
		is($session->ok_query('SHOW tcs.session_token'), $kept, '... and the one before is there again');

		# a hint's token is the statement's
		is($session->ok_query("/* tcs(session_token='$token') */ $read"), '2', "$where: in a hint");
		is($session->ok_query('SHOW tcs.session_token'), $kept, "... the session's token stays");
		is(scalar(grep { ($_->{C} // '') eq $state{$token} } $session->notices), 2, '... a warning each');
		$session->disconnect;
	}

	# a write, and what is reported behind it
	my $writer = TcsWire->new($primary, options => '-c tcs.lost_token=drop');

	$writer->ok_query("SET tcs.session_token = '$token'");
	$writer->ok_query('INSERT INTO t VALUES (2)');
	my $new = $writer->parameter('tcs.session_token');
	isnt($new, $token, "$name: a write goes through");
	is(read_at($standby, $read, token => $new, max_wait => '60s'), '2', '... and reports a token that is served');
	$writer->disconnect;
	is(psql_err($primary, 'INSERT INTO t VALUES (3)', token => $token),
		$state{$token}, '... which is refused by default');
}

# A session that has to have a token has none any more; this read is not refused.
{
	my $session = TcsWire->new($standby, options => '-c tcs.lost_token=drop -c tcs.without_token=error');

	$session->ok_query("SET tcs.session_token = '$lost'");
	is($session->ok_query($read), '2', 'without_token = error: the token is dropped');
	is(($session->query($read))[0]{state}, 'TC005', '... and missed from then on');
	$session->disconnect;
}

# Never silently fresh: where strong cannot be had, it is refused.
pause_replay($standby);
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (4)');
foreach my $token ($lost, $foreign)
{
	my ($state, $err) = psql_err($standby, "$drop $read", token => $token, max_wait => '100ms');

	like($state, qr/^TC00[14]$/, 'behind: refused as strong is');
	like($err, qr/session token was dropped/, '... and why so much was asked for');
	is( psql_err(
			$standby, "$drop BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT v FROM t LIMIT 1; SET LOCAL tcs.session_token = '$token'; $read",
			max_wait => '100ms'),
		'25001', '... after the first query of REPEATABLE READ, too');
}

# ... or redirected.
redirect_to($primary);
resume_replay($standby);
wait_for_replay($primary, $standby);
pause_replay($standby);
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (5)');
is(read_at($standby, "$drop $read", token => $_, max_wait => '60s'), '5', 'redirected') foreach ($lost, $foreign);
resume_replay($standby);

done_testing();
