# test/t/305_history.pl
#
# What a session was promised must still hold when the ground moves: replay
# follows another timeline while a read waits, a REPEATABLE READ snapshot on the
# primary is older than the token, a function reads while the executor starts,
# the worker is terminated.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TcsTest;
use TcsWire;

my ($primary, $first, $second) = new_cluster(standbys => 2);

$primary->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t VALUES (1, 0);
	CREATE TABLE parts (a int, b int) PARTITION BY LIST (a);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
	INSERT INTO parts VALUES (1, 10), (2, 20);
	CREATE FUNCTION chosen() RETURNS int LANGUAGE plpgsql STABLE AS
		$$ BEGIN RETURN (SELECT id FROM t); END $$;
});
wait_for_replay($primary, $_) foreach ($first, $second);

# A snapshot of the primary is not fresh because it is the primary's.
{
	my $reader = TcsWire->new($primary);
	my $own = TcsWire->new($primary);

	$reader->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	is($reader->ok_query('SELECT v FROM t'), '0', 'a snapshot on the primary');
	my $token = write_token($primary, 'UPDATE t SET v = 1');
	$reader->ok_query("SET tcs.session_token = '$token'");
	my ($read) = $reader->query('SELECT v FROM t');
	is($read->{state}, '40001', '... is not what a later token asks for');
	$reader->query('ROLLBACK');
	$reader->ok_query(q{SET tcs.session_token = ''});
	$reader->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$reader->ok_query('SELECT v FROM t');
	$reader->ok_query("SET tcs.session_token = '$token'");
	is($reader->ok_query('SELECT v FROM t'), '1', '... and is that when the transaction is tried again');
	$reader->query('ROLLBACK');

	# what a session wrote before is in its snapshot
	$own->ok_query('UPDATE t SET v = 2');
	$token = $own->parameter('tcs.session_token');
	$own->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	is($own->ok_query('SELECT v FROM t'), '2', 'own write');
	$own->ok_query("SET tcs.session_token = '$token'");
	is($own->ok_query('SELECT v FROM t'), '2', '... asked for again');
	$own->query('COMMIT');
	$_->disconnect foreach ($reader, $own);
}

# Partitions are pruned when the executor starts, by a function that reads.
{
	my $strong = TcsWire->new($first, options => '-c tcs.read_level=strong -c tcs.max_wait=60s');

	foreach my $try (1 .. 2)
	{
		my ($read) = $strong->query('SELECT b FROM parts WHERE a = chosen()');

		is($read->{state}, '00000', "strong, function that prunes partitions ($try)");
		is($read->{rows} ? $read->{rows}[0][0] : undef, '10', '... and its row');
	}
	$strong->disconnect;
}

# A worker that somebody terminates comes back.
{
	my $worker = $second->safe_psql('postgres', 'SELECT worker_pid FROM tcs.status');

	kill 'TERM', $worker;
	ok( $second->poll_query_until('postgres',
			"SELECT worker_pid <> $worker FROM tcs.status WHERE link_state = 'up'"),
		'the worker is started again');
	is(read_at($second, 'SELECT v FROM t', level => 'strong', max_wait => '60s'),
		'2', '... and strong reads are served');
}

# A write that one standby never got is lost when that one becomes the primary,
# also for a session of the other that has waited for it since before.
{
	my $waiting = TcsWire->new($second, options => '-c tcs.max_wait=-1');
	my $fresh = TcsWire->new($second);
	my $orphan = TcsWire->new($second,
		options => '-c tcs.max_wait=-1 -c tcs.read_level=strong');
	my $bound = TcsWire->new($second,
		options => '-c tcs.max_wait=-1 -c tcs.read_level=bounded -c tcs.max_staleness=1');
	my $promoted = TcsWire->new($first,
		options => '-c tcs.max_wait=-1 -c tcs.read_level=strong');

	# No WAL any more, but answers.  Who is promoted must not be behind the other,
	# which could not follow it.
	foreach my $standby ($second, $first)
	{
		wait_for_replay($primary, $standby);
		$standby->append_conf('postgresql.conf',
			sprintf(qq{primary_conninfo = ''\ntcs.primary_conninfo = '%s dbname=postgres'},
				$primary->connstr));
		$standby->reload;
		$standby->poll_query_until('postgres',
			'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
		  or die 'the receiver goes on';
	}
	my $lost = write_token($primary, 'UPDATE t SET v = 3');
	$waiting->ok_query("SET tcs.session_token = '$lost'");
	$waiting->simple('SELECT v FROM t')->flush;
	# answers beyond what the standbys will ever have
	foreach my $standby ($first, $second)
	{
		$standby->poll_query_until('postgres',
			'SELECT primary_lsn > replay_lsn FROM tcs.status')
		  or die 'no answer beyond what is replayed: '
		  . $standby->safe_psql('postgres', 'SELECT * FROM tcs.status');
	}
	$_->simple('SELECT v FROM t')->flush foreach ($bound, $promoted);
	wait_for_waiters($second, 2);
	wait_for_waiters($first, 1);
	# the strong read has its answer, and waits for what it names
	$first->poll_query_until('postgres',
		'SELECT last_answer_age < make_interval(secs => 1) FROM tcs.status');

	$primary->stop('immediate');
	$orphan->simple('SELECT v FROM t')->flush;
	wait_for_waiters($second, 3);
	$first->promote;
	# past the position of the lost write
	$first->safe_psql('postgres',
		'CREATE TABLE filler AS SELECT i, repeat(i::text, 20) FROM generate_series(1, 20000) i');
	my $kept = write_token($first, 'UPDATE t SET v = 4');
	$second->append_conf('postgresql.conf',
		sprintf(qq{primary_conninfo = '%s'\ntcs.primary_conninfo = ''}, $first->connstr));
	$second->reload;

	my ($read) = $waiting->results;
	is($read->{state}, 'TC003', 'a lost write is recognised by who waits for it');
	($read) = $bound->results;
	is($read->{state}, 'TC004', 'what the former primary told cannot be had any more');
	($read) = $orphan->results;
	is($read->{state}, 'TC004', '... nor what it would have told');
	($read) = $promoted->results;
	is($read->{state}, 'TC004', 'strong, and the standby itself is promoted without it');
	is($promoted->ok_query('SELECT v FROM t'), '4', '... a later read is the new primary\'s');
	$fresh->ok_query("SET tcs.max_wait = '60s'; SET tcs.session_token = '$kept'");
	is($fresh->ok_query('SELECT v FROM t'), '4', 'a write on the new primary is seen');
	$_->disconnect foreach ($waiting, $fresh, $bound, $orphan, $promoted);
}

done_testing();
