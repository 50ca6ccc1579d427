# test/t/320_durable.pl
#
# Whether the write that a token names was flushed when the token was made.
# Asynchronous commits are not, and tcs.token_info() says so, until that is
# known to have changed: by the session that wrote, or on a timeline that was
# founded on the write; never because the position has been flushed since, which
# after a crash may be another commit's.  The last part shows the limit: once
# that has happened, the token of the lost commit is served.

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

# Nobody but a commit writes WAL out, if the process that does it in the
# background is held.  A standby that asks would have it written out, too.
my ($primary, $standby) = new_pair(
	conf => "bgwriter_lru_maxpages = 0\nrestart_after_crash = on\n",
	standby_conf => "tcs.probe_interval = 0\n");

$primary->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (0); CREATE TABLE dropped ()');

my $watch = TcsWire->new($primary);

# A statement on the primary while nothing is flushed in the background.
my $wal_writer;

sub hold_wal_writer
{
	$wal_writer = $watch->ok_query(
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	kill('STOP', $wal_writer) == 1 or die 'no WAL writer';
	return;
}

sub durable
{
	my ($node, $token) = @_;

	return $node->safe_psql('postgres',
		"SELECT coalesce(durable::text, 'null') FROM tcs.token_info('$token')");
}

my $writer = TcsWire->new($primary);

sub token_after
{
	$writer->ok_query($_) foreach @_;
	return $writer->parameter('tcs.session_token');
}


##
## What is durable
##

# As little as can be is left for the first readers after the crash to log: dead
# rows in the catalogs, hint bits to be set.
$primary->safe_psql('postgres', 'VACUUM FREEZE');
$primary->safe_psql('postgres', 'CHECKPOINT');

hold_wal_writer();
is(durable($primary, token_after('INSERT INTO t VALUES (1)')), 'true', 'a commit is flushed');
my $async = token_after('SET synchronous_commit = off', 'INSERT INTO t VALUES (2)');

is(durable($primary, $async), 'false', 'an asynchronous one is not');
is(durable($primary, token_after('BEGIN', 'SET LOCAL synchronous_commit = local', 'INSERT INTO t VALUES (3)', 'COMMIT')),
	'true', 'unless its transaction says otherwise');
is(durable($primary, token_after('DROP TABLE dropped')), 'true', '... or does what is flushed in any case');
is( durable($primary, token_after('BEGIN', 'INSERT INTO t VALUES (4)', q{PREPARE TRANSACTION 'p'}, q{COMMIT PREPARED 'p'})),
	'true', '... as is COMMIT PREPARED');

$async = token_after('INSERT INTO t VALUES (5)');
is(durable($primary, $async), 'false', 'another asynchronous one');
my $upper = uc $async;

is(durable($primary, $upper), 'false', '... in upper case');
is($primary->safe_psql('postgres', "SELECT tcs.merge_tokens('$async', '$async') = '$async'"), 't',
	'... merged with itself');

# That its position has been flushed since says nothing of who has it now.
my $own = $writer->ok_query('SELECT tcs.session_token()');

is(durable($primary, $own), 'true', 'tcs.session_token() flushes, and knows what');
is( $writer->ok_query("SELECT pg_current_wal_flush_lsn() >= written_lsn FROM tcs.token_info('$async')"),
	't', 'the position is flushed');
is(durable($primary, $async), 'false', '... which changes no token of before');
my $other = TcsWire->new($primary);

$other->ok_query("SET tcs.session_token = '$async'");
is(durable($primary, $other->ok_query('SELECT tcs.session_token()')), 'false',
	'... nor does another session know');

# of two, the write that stays
my $flushed = token_after('SET synchronous_commit = on', 'INSERT INTO t VALUES (6)');
my $later = token_after('SET synchronous_commit = off', 'INSERT INTO t VALUES (7)');

foreach ([ $async, $flushed, 'true' ], [ $flushed, $later, 'false' ], [ $async, $later, 'false' ])
{
	my ($one, $two, $is) = @$_;

	is(durable($primary, $primary->safe_psql('postgres', "SELECT tcs.merge_tokens('$_->[0]', '$_->[1]')")),
		$is, 'merged: the write that stays decides')
	  foreach ([ $one, $two ], [ $two, $one ]);
}
is(durable($primary, $primary->safe_psql('postgres', 'SELECT tcs.session_token()')), 'null',
	'nothing written');

# On a standby; what it adds says nothing of the write.
is(read_at($standby, $read, token => $later, max_wait => -1), '7', 'a standby has it');
is(durable($standby, $later), 'false', '... and knows no more of it than the token says');
is( durable($standby,
		read_at($standby, "$read;\nSELECT tcs.session_token()", token => $later, max_wait => -1) =~ s/.*\n//r),
	'false', '... nor does a token that was made there');
is(durable($standby, $flushed), 'true', 'of another, the same');


##
## Lost in a crash
##

# Nobody is to have it.  It is past what recovery itself writes.
my $lost = token_after('INSERT INTO t SELECT -1 FROM generate_series(1, 5000)', 'INSERT INTO t VALUES (8)');
my $lsn = "(SELECT written_lsn FROM tcs.token_info('$lost'))";

is($watch->ok_query("SELECT pg_current_wal_flush_lsn() < $lsn"), 't', 'the commit is not flushed');
is(durable($primary, $lost), 'false', '... as its token says');
is(psql_err($standby, $read, token => $lost, max_wait => '10ms'), 'TC001', 'the standby does not have it');
my $log = log_position($primary);

kill('KILL', $wal_writer);
$primary->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
$primary->wait_for_log(qr/database system is ready to accept connections/, $log);
$primary->poll_query_until('postgres', 'SELECT true');
is($primary->safe_psql('postgres', $read), '7', 'a crash: the write is gone');
my ($state, $err) = psql_err($primary, $read, token => $lost, max_wait => -1);

is($state, 'TC003', 'its token is refused');
like($err, qr/lost in a crash/, '... and why');
like($err, qr/was not flushed when the token was made/, '... and what made that possible');
like($primary->safe_psql('postgres', "SELECT on_this_history, history_detail FROM tcs.token_info('$lost')"),
	qr/^f\|WAL ends at /, '... tcs.token_info() says so');

# XXX The limit that docs/limits.md names: other WAL is there now.
$primary->safe_psql('postgres', 'CREATE TABLE filler AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 3000)');

is($primary->safe_psql('postgres', "SELECT pg_current_wal_insert_lsn() > $lsn"), 't', 'the positions are used again');
is( $primary->safe_psql('postgres', "SELECT on_this_history, durable FROM tcs.token_info('$lost')"),
	't|f', 'the token of the lost write seems right, but for what it says itself: not durable');
is(read_at($standby, $read, token => $lost, max_wait => -1), '7', '... and is served without the write');

# A timeline that is founded on a write makes it durable.
$writer = TcsWire->new($primary);
$watch = TcsWire->new($primary);
hold_wal_writer();
my $founded = token_after('SET synchronous_commit = off', 'INSERT INTO t VALUES (9)');

is(durable($primary, $founded), 'false', 'one more asynchronous write');
kill('CONT', $wal_writer);
$primary->safe_psql('postgres', 'SELECT tcs.session_token()');
wait_for_replay($primary, $standby);
$primary->stop('immediate');
$standby->promote;
is($standby->safe_psql('postgres', "SELECT on_this_history, durable FROM tcs.token_info('$founded')"),
	't|t', 'what a new timeline is founded on is durable there');
$other = TcsWire->new($standby);
$other->ok_query("SET tcs.session_token = '$founded'");
is( $other->ok_query('SELECT timeline_id, durable FROM tcs.token_info(tcs.session_token())'),
	'2|t', '... also in a token of that timeline');

done_testing();
