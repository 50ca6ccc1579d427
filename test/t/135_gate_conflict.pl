# test/t/135_gate_conflict.pl
#
# A session that waits for replay must not be one that replay waits for.  Replay
# that removes rows which a snapshot still needs waits for the *transactions*
# that had such a snapshot when it looked, not for their snapshots.  So a
# session can be waited for long after its snapshot is gone.  The first part
# makes that happen at will, the second runs into it under load, as the first
# users would.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_cluster(
	standbys => 1,
	conf => 'max_standby_streaming_delay = -1');

$primary->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v int) WITH (fillfactor = 50);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 8) i;
});
wait_for_replay($primary, $standby);

# A block holds a lock that replay waits for: whichever way the next statement
# comes to the gate, it says so, and not that the primary is silent.
{
	my $holder = TcsWire->new($standby, options => '-c tcs.max_wait=60s');

	$primary->safe_psql('postgres', q{
		CREATE TABLE churn (a int);
		CREATE FUNCTION counts() RETURNS bigint IMMUTABLE LANGUAGE plpgsql
			AS 'BEGIN RETURN (SELECT count(*) FROM t); END'});
	foreach my $level (qw(session strong))
	{
		foreach my $read ('SELECT v FROM t', 'SELECT counts()', 'DECLARE c CURSOR FOR SELECT v FROM t')
		{
			wait_for_replay($primary, $standby);
			$holder->ok_query("SET tcs.session_token = ''; SET tcs.read_level = session");
			$holder->ok_query('BEGIN');
			$holder->ok_query('SELECT count(*) FROM churn');
			my $token = write_token($primary,
				'ALTER TABLE churn ADD b int; ALTER TABLE churn DROP b');

			$holder->ok_query("SET tcs.session_token = '$token'; SET tcs.read_level = $level");
			my ($refused) = $holder->query($read);
			is($refused->{state}, '40P01', "a block that replay waits for, $level: $read");
			$holder->query('ROLLBACK');
		}
	}
	$holder->disconnect;
}

# 1. A transaction whose first statement had the snapshot, and whose second
# one waits for replay.
{
	my $gate = TcsWire->new($standby);
	my $reader = TcsWire->new($standby, options => '-c tcs.max_wait=60s');

	$gate->ok_query('SELECT pg_advisory_lock(1)');
	$reader->ok_query('BEGIN');
	$reader->simple('SELECT v, pg_advisory_xact_lock_shared(1) FROM t WHERE id = 1');
	$reader->flush;
	$standby->poll_query_until('postgres', sprintf(
			q{SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = %d},
			$reader->pid))
	  or die 'the reader does not stand at the lock';

	# replay comes to what the reader's snapshot forbids
	$primary->safe_psql('postgres', 'UPDATE t SET v = 1 WHERE id = 1');
	$primary->safe_psql('postgres', 'VACUUM t');
	my $token = write_token($primary, 'UPDATE t SET v = 2 WHERE id = 1');
	$standby->poll_query_until('postgres',
		q{SELECT wait_event = 'RecoveryConflictSnapshot' FROM pg_stat_activity
		  WHERE backend_type = 'startup'})
	  or die 'replay does not wait for the reader';

	# The longer replay has waited, the longer it takes to look again: up to a
	# second.  No check below depends on this time.
	$gate->ok_query('SELECT pg_sleep(0.7)');

	# the first statement ends; its transaction is still waited for
	$gate->ok_query('SELECT pg_advisory_unlock(1)');
	my ($first) = $reader->results;
	is($first->{state}, '00000', 'the first statement ends');
	is($first->{rows}[0][0], '0', '... with what it began to read');

	$reader->ok_query("SET tcs.session_token = '$token'");
	my ($second) = $reader->query('SELECT v FROM t WHERE id = 1');
	is($second->{state}, '00000', 'the second statement is not a deadlock');
	is($second->{rows} ? $second->{rows}[0][0] : undef,
		'2', '... and sees what the token names');
	$reader->query('COMMIT');
	$_->disconnect foreach ($gate, $reader);
}

# 2. Eight sessions write and read on: pages are pruned all the time.
{
	my $sessions = 8;
	my $rounds = 60;
	my @writers = map { TcsWire->new($primary) } 1 .. $sessions;
	my @readers = map {
		TcsWire->new($standby, options => '-c tcs.max_wait=60s')
	} 1 .. $sessions;
	my ($stale, $failed) = (0, 0);

	foreach my $round (1 .. $rounds)
	{
		foreach my $i (0 .. $sessions - 1)
		{
			$writers[$i]->simple(sprintf('UPDATE t SET v = %d WHERE id = %d',
					$round + 100, $i + 1));
			$writers[$i]->flush;
		}
		foreach my $i (0 .. $sessions - 1)
		{
			$writers[$i]->results;
			$readers[$i]->simple(sprintf(
					"SET tcs.session_token = '%s'",
					$writers[$i]->parameter('tcs.session_token')));
			$readers[$i]->flush;
			$readers[$i]->results;
			$readers[$i]->simple(sprintf('SELECT v FROM t WHERE id = %d', $i + 1));
			$readers[$i]->flush;
		}
		foreach my $i (0 .. $sessions - 1)
		{
			my ($read) = $readers[$i]->results;

			if ($read->{state} ne '00000')
			{
				$failed++;
				diag($read->{state});
			}
			elsif ($read->{rows}[0][0] != $round + 100)
			{
				$stale++;
			}
		}
	}
	is($failed, 0, 'no read under load is refused');
	is($stale, 0, 'no read under load is stale');
	$_->disconnect foreach (@writers, @readers);
}

done_testing();
