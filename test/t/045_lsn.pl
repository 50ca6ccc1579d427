# test/t/045_lsn.pl
#
# Positions at their edges.  A token that names exactly what is replayed is
# served without a wait, one byte more is not.  Positions behind a page header
# or a switched segment name nothing that a standby could wait for, and those
# that are made where another session's unflushed WAL ends must be reached
# without anybody writing more: each of these reads would hang for many seconds
# or for ever if the position were taken as the server counts it.  Last, a
# commit becomes visible on a standby before its record counts as replayed: a
# token taken there must cover it all the same.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsReadIndex;
use TcsTest;
use TcsWire;
use TcsWrites;

use constant PAGE => 8192;

# The background writer's record of running transactions would move positions
# that stand still; it comes 15 s after the last write.
my ($primary, $standby, $other) = new_cluster(standbys => 2);
my $read = 'SELECT v FROM t WHERE id = 1';
my $value = 0;

$primary->safe_psql('postgres',
	q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0);
	  CREATE TABLE filler (v text)});
wait_for_replay($primary, $_) foreach ($standby, $other);
wait_for_answer($_) foreach ($standby, $other);

my $writer = TcsWire->new($primary);
my $asker = TcsWire->new($primary, options => $TcsReadIndex::options);

# What a standby would be told now.
sub read_index_now
{
	return lsn_number($asker->ok_query($TcsReadIndex::query));
}

sub written_in
{
	my ($token) = @_;

	return hex((split /\./, $token)[4]);
}

sub write_with
{
	my ($more) = @_;

	$value++;
	$writer->ok_query("BEGIN; UPDATE t SET v = $value WHERE id = 1; "
		  . ($more // '') . '; COMMIT');
	return $writer->parameter('tcs.session_token');
}

# Served without any further write, within a time that nothing else needs.
my @soon = (max_wait => '8s');


##
## Exactly there, and one byte more
##

my $token = write_with();

is(token_with($token), $token, 'a token made here is like one made there');
wait_for_replay($primary, $standby);
pause_replay($standby);

my $replayed = lsn_number(replay_lsn($standby));
my $empty = token_with($token, written => 0);

foreach my $part (qw(written seen_primary seen_standby))
{
	is( read_at(
			$standby, $read,
			token => token_with($empty, $part => $replayed),
			max_wait => 0),
		$value,
		"$part at what is replayed: served at once");
	is( psql_err(
			$standby, $read,
			token => token_with($empty, $part => $replayed + 1),
			max_wait => 0),
		'TC001',
		"$part one byte later: not there");
	is( read_at(
			$standby, $read,
			token => token_with($empty, $part => $replayed - 1),
			max_wait => 0),
		$value,
		"$part one byte earlier: there");
}
is(psql_err($standby, "CALL tcs.wait_for('" . token_with($empty, written => $replayed) . "', '0')"),
	'00000', 'tcs.wait_for() at what is replayed');
is( psql_err(
		$standby, "CALL tcs.wait_for('" . token_with($empty, written => $replayed + 1) . "', '0')"),
	'TC001',
	'tcs.wait_for() one byte later');

my $one_more = start_read(
	$standby, $read,
	token => token_with($empty, written => $replayed + 1),
	max_wait => -1);

wait_for_waiters($standby);
resume_replay($standby);
$token = write_with();
# That record may be any, the commit's or one before it.
is((finish_read($one_more))[0], '00000', 'the next record serves it');

# The end of the commit is the least position that shows it.
pause_replay($standby);
$token = write_with();
is(psql_err($standby, $read, token => $token, max_wait => 0),
	'TC001', 'a commit that is not replayed');
resume_replay($standby);
is(read_at($standby, $read, token => $token, @soon), $value, '... and then is');


##
## The end of a page
##

# Makes the WAL end with the end of a page, by a message or by a commit with a
# message; returns the position, or nothing if somebody else wrote WAL.
sub fill_page
{
	my ($transactional) = @_;
	my $emit = sub {
		my ($size) = @_;
		my $before = insert_lsn($writer);

		$writer->ok_query("SELECT pg_logical_emit_message($transactional, '', repeat('x', $size))");
		return insert_lsn($writer) - $before;
	};

	foreach my $try (1 .. 50)
	{
		# what a message of a known size takes, within one page
		my $left = PAGE - insert_lsn($writer) % PAGE;

		if ($left < 1000)
		{
			$emit->(1000);
			next;
		}
		my $overhead = $emit->(300) - 300;

		# leave room for one whose length needs no more bytes than that
		$left = PAGE - insert_lsn($writer) % PAGE;
		next if $left < 1000;
		$emit->($left - 900 - $overhead) if $left > 2000;
		$left = PAGE - insert_lsn($writer) % PAGE;
		next if $left - $overhead < 260 || $left > 2000;
		$emit->($left - $overhead);
		my $now = insert_lsn($writer);

		# the server counts the header of the next page
		return $now - $now % PAGE if $now % PAGE == 24;
		return $now - $now % PAGE if $now % PAGE == 40;
	}
	return;
}

# Catalogs that are read for the first time may be pruned, which writes WAL.
$writer->ok_query('SELECT tcs.session_token()');

# The server itself writes now and then, which would help a read that waits for
# the impossible; a round counts if it did not.
my ($filled, $after) = (0, 0);

foreach my $try (1 .. 10)
{
	my $end = fill_page('false') or next;

	$token = $writer->ok_query('SELECT tcs.session_token()');
	my $served = join(' ',
		scalar(psql_err($standby, $read, token => $token, @soon)),
		scalar(psql_err($standby, $read, level => 'strong', @soon)),
		scalar(psql_err($standby, $read, level => 'bounded', max_staleness => 0, @soon)));

	is($served, '00000 00000 00000',
		'the end of a page: a token, strong and a bound of zero are served');
	($filled, $after) = ($end, insert_lsn($writer));
	last if $after <= $end + 40;
}
cmp_ok($after, '<=', $filled + 40, '... without another write');
is(hex((split /\./, $token)[5]), $filled, '... since the position ends before the next header');

my $written;

foreach my $try (1 .. 20)
{
	fill_page('true');
	$token = $writer->parameter('tcs.session_token');
	$written = written_in($token);
	last if $written % PAGE == 0;
}
is($written % PAGE, 0, 'a commit record that ends with a page');
is(read_at($standby, $read, token => $token, @soon),
	$value, '... its token is served without another write');

# A position that somebody took as the server counts, behind the header.
pause_replay($standby);
$token = write_with();
is(psql_err($standby, $read, token => $token, max_wait => 0), 'TC001',
	'the next commit is not there yet');
resume_replay($standby);


##
## The end of a segment
##

$writer->ok_query('SELECT pg_switch_wal()');
$token = $writer->ok_query('SELECT tcs.session_token()');
is(hex((split /\./, $token)[5]) % (1024 * 1024), 0, 'after pg_switch_wal(): the segment');
is(read_at($standby, $read, token => $token, @soon),
	$value, '... a token is served without another write');
is(read_at($standby, $read, level => 'strong', @soon), $value, '... so is strong');
$writer->ok_query('SELECT pg_switch_wal()');
is(read_at($standby, $read, level => 'strong', @soon), $value, '... once more');


##
## Unflushed WAL of another session
##

# The WAL writer writes whole pages; what a standby has got ends within a
# record, which nobody completes.
my $hoarder = TcsWire->new($primary);

foreach my $round (1 .. 3)
{
	$token = write_with();
	$hoarder->ok_query(
		q{BEGIN; INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 130)});
	$token = $writer->ok_query('SELECT tcs.session_token()');
	is(read_at($standby, $read, token => $token, @soon),
		$value, "unflushed WAL of another session: a token is served ($round)");
	$hoarder->ok_query(
		q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 130)});
	is(read_at($other, $read, level => 'strong', @soon), $value, '... strong is');
	cmp_ok(read_index_now(), '<', insert_lsn($writer) - 200_000, '... since nobody has to see that WAL');
	$hoarder->ok_query(
		q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 130)});
	is( read_at(
			$standby, $read,
			level => 'bounded',
			max_staleness => 0,
			@soon),
		$value,
		'... a bound of zero is');

	# an asynchronous commit, whose record is not flushed when it is acknowledged
	$value++;
	$writer->ok_query("SET synchronous_commit = off; UPDATE t SET v = $value WHERE id = 1");
	is( read_at(
			$other, $read,
			token => $writer->parameter('tcs.session_token'),
			@soon),
		$value,
		'... an asynchronous commit is read by its token');
	$value++;
	$writer->ok_query("UPDATE t SET v = $value WHERE id = 1");
	cmp_ok(read_index_now(), '>=', written_in($writer->parameter('tcs.session_token')),
		'... is in what standbys are told');
	is(read_at($standby, $read, level => 'strong', @soon),
		$value, '... and read by strong');
	$writer->ok_query('RESET synchronous_commit');
	$hoarder->ok_query($round == 2 ? 'ROLLBACK' : 'COMMIT');
}


##
## Visible before it counts as replayed
##

# Replay shows a commit as committed, then unlinks the files of the tables it
# dropped, and only then moves its position.
my $reader = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
my $early = 0;

foreach my $round (1 .. 4)
{
	my @tables = map { "dropped$_" } 1 .. 250;

	$writer->ok_query(join(';', map { "CREATE TABLE $_ (a int)" } @tables));
	wait_for_replay($primary, $_) foreach ($standby, $other);
	pause_replay($other);

	my $before = $value;
	my $commit = write_with('DROP TABLE ' . join(', ', @tables));
	my $answer = '';
	my $attempts = 0;

	while ($answer !~ /^$value\n/ && $attempts++ < 1_000_000)
	{
		my @results = $reader->query(
			"$read; SELECT tcs.session_token(), pg_last_wal_replay_lsn()");

		$answer = TcsWire::rows_text($results[0]) . "\n" . TcsWire::rows_text($results[1]);
	}
	my ($seen, $lsn) = $answer =~ /\n(.*)\|(.*)/;

	$early++ if lsn_number($lsn) < written_in($commit);
	is(read_at($other, $read, level => 'eventual'),
		$before, "commit that drops 250 tables ($round): the other standby has it not");
	is(psql_err($other, $read, token => $seen, max_wait => 0),
		'TC001', '... and the token of who saw it says so');
	is(psql_err($other, $read, token => $seen, level => 'monotonic_reads', max_wait => 0),
		'TC001', '... at monotonic_reads, too');
	is( read_at(
			$other, $read,
			token => $seen,
			level => 'read_your_writes',
			max_wait => 0),
		$before,
		'... who asks for his own writes only gets what is there');

	my $waiting = start_read($other, $read, token => $seen, max_wait => -1);

	wait_for_waiters($other);
	resume_replay($other);
	is(finish_read($waiting), $value, '... until it has it');
}
note "in $early of 4 rounds the commit was seen before its position was replayed";


##
## What standbys are told covers what is acknowledged, however it was committed
##

sub covers
{
	my ($what, $statements) = @_;
	my $before = insert_lsn($writer);

	$writer->ok_query($_) foreach (@$statements);
	cmp_ok(read_index_now(), '>', $before, "told: $what");
}

covers('autocommit', ['UPDATE t SET v = v']);
covers('a block', [ 'BEGIN', 'UPDATE t SET v = v', 'COMMIT' ]);
covers('a procedure', ['DO $$ BEGIN UPDATE t SET v = v; COMMIT; END $$']);
covers('DDL', ['CREATE TABLE later (a int)']);
covers('nextval()', [ 'CREATE SEQUENCE s', q{SELECT nextval('s')} ]);
$writer->ok_query(q{BEGIN; UPDATE t SET v = v; PREPARE TRANSACTION 'two'});
covers('COMMIT PREPARED', [q{COMMIT PREPARED 'two'}]);
$writer->ok_query(q{BEGIN; UPDATE t SET v = v; PREPARE TRANSACTION 'three'});
$writer->ok_query('SET default_transaction_read_only = on');
covers('COMMIT PREPARED in a session that only reads', [q{COMMIT PREPARED 'three'}]);

# the first answer of a server that knows of no commit yet
$writer->ok_query('RESET default_transaction_read_only');
$token = write_with();
$primary->stop('immediate');
$primary->start;
cmp_ok(lsn_number(read_index($primary)),
	'>=', written_in($token), 'told: what was acknowledged before a restart');
$token = write_token($primary, 'UPDATE t SET v = v WHERE id = 1');
wait_for_replay($primary, $standby);
$standby->promote;
$primary->stop;
cmp_ok(lsn_number(read_index($standby)),
	'>=', written_in($token), 'told: what was acknowledged before a promotion');

done_testing();
