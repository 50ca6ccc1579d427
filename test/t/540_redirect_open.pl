# test/t/540_redirect_open.pl
#
# Transactions that are open while their statements are redirected.
#
# Cursors: the remaining rows of one are brought over before another statement is
# redirected.  That takes as long as it takes, and can be ended by whoever waits
# for it.  Locks: replay can come to wait for one, and the primary for replay.
#
# Replay stands still behind a change of the primary: a new row proves that the
# statement ran there.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsResults;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();

# the last of its rows but some comes when the lock can be had
redirect_to($primary);
$primary->safe_psql(
	'postgres', q{
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'old' FROM generate_series(1, 10) i;
CREATE FUNCTION slow(int) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF $1 = 900 THEN
		PERFORM pg_advisory_lock_shared(7);
		PERFORM pg_advisory_unlock_shared(7);
	END IF;
	RETURN repeat('x', 1000);
END$$});
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token($primary, q{UPDATE t SET v = 'new'});
my $at_primary = TcsWire->new($primary);
my $at_standby = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
my $timeout = 100;
my $slow = 'DECLARE c CURSOR FOR SELECT g, slow(g) FROM generate_series(1, 1000) g';
my $read = 'SELECT v FROM t WHERE id = 1';

sub cursor_client
{
	my (%opt) = @_;
	my $client = TcsWire->new($standby);

	$client->ok_query("SET tcs.session_token = '$token'; SET tcs.redirect_after = 0; SET tcs.max_wait = 10");
	$client->ok_query($_) foreach @{ $opt{set} // [] };
	return $client;
}

# A client that has sent a statement, which has been kept from being sent on for
# longer than tcs.redirect_timeout by rows that do not come.
sub held_by_rows
{
	my ($isolation, $then, $statement) = @_;
	my $client = cursor_client();

	$at_primary->ok_query('SELECT pg_advisory_lock(7)');
	$client->ok_query("BEGIN ISOLATION LEVEL $isolation");
	# connecting may take longer than that
	is(last_answer($client->query("$read; SET LOCAL tcs.redirect_timeout = $timeout; SELECT 1")), '1', 'connected');
	is(last_answer($client->query("$slow; MOVE 1 FROM c; $then SELECT 2")), '2', "$isolation: a cursor is begun");
	$client->simple($statement)->flush;
	ok( $at_primary->poll(
			'SELECT count(*) = 1 AND min(clock_timestamp() - waitstart) > '
			  . "interval '@{[ 3 * $timeout ]} ms' FROM pg_locks"
			  . q{ WHERE locktype = 'advisory' AND NOT granted}),
		'... its rows do not come');
	return $client;
}

sub go_on
{
	$at_primary->ok_query('SELECT pg_advisory_unlock(7)');
	return;
}

foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
{
	my $client = held_by_rows($isolation, '', $read);

	go_on();
	is(last_answer($client->results), 'new', "$isolation: the rows of a cursor take longer than tcs.redirect_timeout");
	is(last_answer($client->query('SELECT count(*) FROM t')), '10', '... the transaction goes on');
	my $rest = ($client->query('FETCH ALL FROM c'))[-1];

	is(scalar(@{ $rest->{rows} }), 999, '... and the cursor') or diag(TcsWire::describe_result($rest));
	is(last_answer($client->query($read)), 'new', '... to the end');
	$client->ok_query('COMMIT');
	$client->disconnect;

	$client = held_by_rows($isolation, '', "DECLARE d CURSOR FOR $read");
	go_on();
	$client->results;
	is(last_answer($client->query('FETCH ALL FROM d')), 'new', "$isolation: the same with a second cursor");
	$client->ok_query('COMMIT');
	$client->disconnect;

	$client = held_by_rows($isolation, '', $read);
	$at_standby->ok_query('SELECT pg_cancel_backend(' . $client->pid . ')');
	is(last_answer($client->results), '57014', "$isolation: cancelled while rows are brought over");
	go_on();
	$client->ok_query('ROLLBACK');
	is(last_answer($client->query($read)), 'new', '... the session goes on');
	$client->disconnect;

	$client = held_by_rows($isolation, q{SET LOCAL statement_timeout = '1s';}, $read);
	is(last_answer($client->results), '57014', "$isolation: statement_timeout while rows are brought over");
	go_on();
	$client->ok_query('ROLLBACK');
	is(last_answer($client->query($read)), 'new', '... the session goes on');
	$client->disconnect;
}

# What is closed in READ COMMITTED is not waited for.
{
	my $client = held_by_rows('REPEATABLE READ', 'CLOSE c;', $read);

	go_on();
	is(last_answer($client->results), 'new', 'REPEATABLE READ: a cursor that was closed');
	$client->ok_query('COMMIT');
	$client->disconnect;
}

# An error among rows that nobody has fetched ends a transaction that runs on the
# primary as a whole.  It tells which cursor it is of.
foreach my $case ([ '', qr/remaining rows of redirected cursor "c"/ ], [ 'CLOSE c;', qr/cursor that was closed/ ])
{
	my ($then, $context) = @$case;
	my $client = cursor_client();
	my ($failed) = ($client->query("BEGIN ISOLATION LEVEL REPEATABLE READ;"
			  . " DECLARE c CURSOR FOR SELECT 1 / (id - 7) FROM t ORDER BY id; FETCH 2 FROM c; $then $read"))[-1];

	is($failed->{state}, '22012', 'REPEATABLE READ: an error in a row that nobody has fetched' . ($then && ', closed'));
	like($failed->{error}{W} // '', $context, '... says of which cursor');
	$client->ok_query('ROLLBACK');
	is(last_answer($client->query($read)), 'new', '... the session goes on');
	$client->disconnect;
}

# The rows are kept on disk.
foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
{
	# the primary has the same limit, and needs no file for this
	my $many = 'DECLARE c CURSOR FOR SELECT 1 FROM t, t a, t b, t c';

	foreach my $limit (-1, 64)
	{
		my $client = cursor_client(set => [ q{SET work_mem = '64kB'}, "SET temp_file_limit = $limit" ]);

		$client->ok_query("BEGIN ISOLATION LEVEL $isolation");
		$client->ok_query("$many; FETCH 1 FROM c; SAVEPOINT s");
		is(last_answer($client->query($read)), $limit < 0 ? 'new' : '53400',
			"$isolation: work_mem is full, temp_file_limit = $limit");
		if ($limit < 0)
		{
			is(last_answer($client->query('MOVE FORWARD ALL FROM c; SELECT count(*) FROM t')), '10', '... all is there');
		}
		else
		{
			$client->ok_query('ROLLBACK TO s');
			is(last_answer($client->query('FETCH ALL FROM c')), '08006', '... the rest of its rows is lost');
			$client->ok_query('ROLLBACK');
			is(last_answer($client->query($read)), 'new', '... the session goes on');
		}
		$client->disconnect;
	}
}


##
## Locks
##

# On the primary the statement waits for a lock of a transaction, whose commit waits
# for replay here, which waits for a lock of the session.
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = -1\ndeadlock_timeout = 100ms");
$standby->reload;
set_quorum($primary, '*', 1);
foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
{
	my $ddl = TcsWire->new($primary, options => '-c synchronous_commit=remote_apply');
	my $client = TcsWire->new($standby, options => '-c statement_timeout=20s');

	$at_standby->stop_replay;
	$token = write_token($primary, q{UPDATE t SET v = 'newer'});
	if ($isolation eq 'READ COMMITTED')
	{
		$client->ok_query("BEGIN; $read");
		$client->ok_query("SET LOCAL tcs.session_token = '$token'; SET LOCAL tcs.redirect_after = 0");
	}
	else
	{
		$client->ok_query("SET tcs.session_token = '$token'; SET tcs.redirect_after = 0");
		$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	}
	$ddl->ok_query("BEGIN; ALTER TABLE t ADD COLUMN n@{[ $ddl->pid ]} int");
	$client->simple($read)->flush;
	ok($at_primary->poll('SELECT count(*) = 1 FROM pg_locks WHERE NOT granted'), "$isolation: it waits on the primary");
	$ddl->simple('COMMIT')->flush;
	ok( $at_primary->poll(
			q{SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = } . $ddl->pid),
		'... for what waits for replay');
	$at_standby->go_on;
	is(last_answer($client->results), '40P01', '... which waits for the session: a deadlock');
	is(last_answer($ddl->results), '', '... that the others come out of');
	$client->ok_query('ROLLBACK');
	is(last_answer($client->query($read)), 'newer', '... and the session, when it tries again');
	$_->disconnect foreach ($ddl, $client);
}

$_->disconnect foreach ($at_primary, $at_standby);
done_testing();
