# test/t/300_failover.pl
#
# Tokens through changes of the primary.  Two failovers in a row, each of which
# loses a write; a commit that ends exactly where the next timeline begins; a
# session that waits through both; the first primary, rewound, as a standby; a
# copy restored to a point in time, with the same system identifier.  What is
# on a node's history must be served there, what is not must be refused as lost
# and never served, also when the new timeline has come to the same numbers.
# The timeline history is read once per change, not per statement.

use strict;
use warnings;

use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsNodes;
use TcsTest;
use TcsWire;
use TcsWrites;

my $read = 'SELECT max(v) FROM t';
my $value = 0;

my ($n1, $n2, $n3, $late) = new_cluster(
	standbys => 3,
	conf => "wal_log_hints = on\n");

$n1->safe_psql('postgres', 'CREATE TABLE t (v int)');
$n1->backup('copy');

# The next write.
my $write_next = counted_write(\$value, 'INSERT INTO t VALUES (%d)');

sub info
{
	my ($node, $token, $columns) = @_;

	return $node->safe_psql('postgres',
		"SELECT $columns FROM tcs.token_info('$token')");
}

# A token is served on a node at once, or lost there.
sub kept_on
{
	my ($what, $token, @nodes) = @_;

	foreach my $node (@nodes)
	{
		my ($state, $err) = psql_err($node, $read, token => $token, max_wait => 0);

		is($state, '00000', "$what: served on " . $node->name) or diag $err;
		is(info($node, $token, 'on_this_history, reached_here'), 't|t', '... and said to be');
	}
	return;
}

sub lost_on
{
	my ($what, $token, $where, @nodes) = @_;

	foreach my $node (@nodes)
	{
		my ($state, $err) = psql_err($node, $read, token => $token, max_wait => -1);

		is($state, 'TC003', "$what: lost on " . $node->name);
		like($err, qr/lost in a failover/, '... and why');
		like(info($node, $token, 'on_this_history || coalesce(reached_here::text, $$?$$) || history_detail'),
			qr/^false\?$where$/, '... tcs.token_info() says where');
		is(psql_err($node, $read, token => $token, level => $_, max_wait => -1),
			'TC003', "... at $_, too")
		  foreach ('read_your_writes', 'strong');
	}
	return;
}

my $lsn = '[0-9A-F]+/[0-9A-F]+';


##
## A commit that ends exactly where the next timeline begins
##

my $exact;

foreach my $try (1 .. 10)
{
	$exact = $write_next->($n1);
	wait_for_replay($n1, $_) foreach ($n2, $n3, $late);
	cut_off($n2, $n3, $late);

	# in this moment the server may have written something of its own
	my $end = info($n1, $exact, 'written_lsn');

	last if !grep { replay_lsn($_) ne $end } ($n2, $n3, $late);
	follow($_, $n1) foreach ($n2, $n3, $late);
}
my $exact_value = $value;
my $exact_end = info($n1, $exact, 'written_lsn');
my $lost_1 = $write_next->($n1);

# what comes next on the old timeline, by one byte
is(info($n2, $lost_1, 'history_detail'), 'not yet known', 'before the failover nothing is lost');

$n1->stop('immediate');
$n2->promote;
is($n2->safe_psql('postgres', 'SELECT timeline_begin_lsn FROM tcs.token_info(tcs.session_token())'),
	$exact_end, 'the new timeline begins where the last commit ended');
kept_on('a commit that ends there', $exact, $n2);
is(read_at($n2, $read, token => $exact), $exact_value, '... and is there');
lost_on('the next one', $lost_1, "forked at $exact_end of timeline 1", $n2);

# nothing was proved of the new timeline while it was not there
my $on_2 = $write_next->($n2);

is(info($n3, $on_2, 'timeline_id, on_this_history IS NULL, reached_here'), '2|t|f',
	'a standby that has not followed does not know');
follow($n3, $n2);
is(read_at($n3, $read, token => $on_2, max_wait => '60s'), $value, 'it follows, and is waited for');
kept_on('the commit at the end of timeline 1', $exact, $n3);
lost_on('behind it', $lost_1, "forked at $lsn of timeline 1", $n3);


##
## The history is read once per change
##

{
	my $session = TcsWire->new($n3);
	my $file = $n3->data_dir . '/pg_wal/00000002.history';

	$session->ok_query("SET tcs.session_token = '$on_2'; $read");
	rename($file, "$file.away") or die "$file: $!";
	foreach my $try (1 .. 3)
	{
		my $next = $write_next->($n2);

		$session->ok_query("SET tcs.max_wait = -1; SET tcs.session_token = '$next'");
		is($session->ok_query($read), $value, "the history is not read again ($try)");
		$session->ok_query("SET tcs.session_token = '$lost_1'");
		my ($result) = $session->query($read);
		is($result->{state}, 'TC003', '... nor for what is lost');
	}
	my ($state, $err) = psql_err($n3, $read, token => $on_2, max_wait => 0);

	is($state, 'TC004', 'who has not read it yet cannot tell');
	like($err, qr/timeline history file of this node is missing/, '... and says why');
	rename("$file.away", $file) or die "$file: $!";
	is(read_at($n3, $read, token => $on_2), $value, 'it is looked for again when it was missing');
	$session->disconnect;
}


##
## A second failover, and a session that waits through both
##

my $patient = TcsWire->new($late, options => '-c tcs.max_wait=-1');
my $doomed = TcsWire->new($late, options => '-c tcs.max_wait=-1');

wait_for_replay($n2, $n3);
my $on_2_late = $write_next->($n2);
wait_for_replay($n2, $n3);
cut_off($n3);
my $lost_2 = $write_next->($n2);

$n2->stop('immediate');
$n3->promote;
$n3->safe_psql('postgres',
	'CREATE TABLE filler AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 300)');
my $on_3 = $write_next->($n3);

is( info($n3, $on_3,
		"timeline_id, written_lsn > (tcs.token_info('$lost_2')).written_lsn, written_lsn > (tcs.token_info('$lost_1')).written_lsn"),
	'3|t|t',
	'timeline 3 is past all numbers of the others');
kept_on($_->[0], $_->[1], $n3)
  foreach (
	[ 'the end of timeline 1', $exact ],
	[ 'timeline 2', $on_2 ],
	[ 'later on timeline 2', $on_2_late ],
	[ 'timeline 3', $on_3 ]);
lost_on('lost in the first failover', $lost_1, "forked at $exact_end of timeline 1", $n3);
lost_on('lost in the second failover', $lost_2, "forked at $lsn of timeline 2", $n3);

is( $n3->safe_psql('postgres',
		"SELECT (tcs.token_info(tcs.merge_tokens(tcs.merge_tokens('$exact', '$on_2'), '$on_3'))).timeline_id"),
	'3',
	'tokens of three timelines merge');
is(psql_err($n3, "SELECT tcs.merge_tokens('$lost_2', '$on_3')"), 'TC003', '... those that are lost do not');

# It is on timeline 1 still, at its end.
is($late->safe_psql('postgres', 'SELECT timeline_id FROM tcs.status'), '1', 'a standby left behind');
$patient->ok_query("SET tcs.session_token = '$on_3'");
$doomed->ok_query("SET tcs.session_token = '$lost_2'");
$_->simple($read)->flush foreach ($patient, $doomed);
wait_for_waiters($late, 2);
follow($late, $n3);
is(TcsWire::describe_result($patient->results), $value, 'a wait through two changes of the timeline');
is(($doomed->results)[0]{state}, 'TC003', '... in which what it is for may be lost');
is(read_at($late, $read, level => 'strong', max_wait => -1), $value, 'strong asks the third primary');
kept_on('timeline 2', $on_2_late, $late);
lost_on('lost in the first failover', $lost_1, "forked at $exact_end of timeline 1", $late);
$_->disconnect foreach ($patient, $doomed);


##
## A token that is lost stays so until the client lets go of it
##

# What needs no level, or asks for "eventual", runs on a history that the token
# does not lie on.  It must not make a token of it that is served.
{
	my $session = TcsWire->new($n3, options => '-c tcs.report_token=all');

	$session->ok_query("SET tcs.session_token = '$lost_2'");
	foreach my $harmless ('SELECT 1', 'PREPARE p AS ' . $read, 'BEGIN; SELECT 1; COMMIT',
		"SET tcs.read_level = eventual; $read; RESET tcs.read_level")
	{
		$session->ok_query($harmless);
		my ($result) = $session->query($read);
		is($result->{state}, 'TC003', "still lost after $harmless");
	}
	$session->ok_query("SET tcs.read_level = eventual; INSERT INTO t VALUES ($value); RESET tcs.read_level");
	is(($session->query($read))[0]{state}, 'TC003', '... and after a write');
	is(($session->query($_))[0]{state}, '00000', "... which \"$_\" ends")
	  foreach ("SET tcs.session_token = '$on_3'", $read);
	$session->disconnect;
}

# The same of what no level is asked for.
foreach my $statement ('CREATE TABLE IF NOT EXISTS u (v int)', 'TRUNCATE u', 'DROP TABLE u')
{
	my $after = write_token($n3, $statement, token => $lost_2);

	lost_on("after $statement", $after, "forked at $lsn of timeline 2", $n3);
}

# A primary that was deposed, and does not know of it.
{
	$n1->start;
	my $session = TcsWire->new($n1, options => '-c tcs.report_token=all');

	$session->ok_query("SET tcs.session_token = '$on_3'");
	is(($session->query($read))[0]{state}, 'TC001', 'a deposed primary does not serve the new token');
	$session->ok_query("SET tcs.read_level = eventual; INSERT INTO t VALUES (0); RESET tcs.read_level");
	my $both = $session->parameter('tcs.session_token');
	my ($result) = $session->query($read);

	is($result->{state}, 'TC003', 'who writes there has written on two histories');
	is(psql_err($_, $read, token => $both), 'TC003', '... as every node knows, ' . $_->name)
	  foreach ($n3, $late, $n1);
	like((psql_err($n3, $read, token => $both))[1], qr/has also written or read on another history/,
		'... and says');
	is(psql_err($n3, $read, token => $both, level => $_), 'TC003', "... at $_")
	  foreach ('read_your_writes', 'monotonic_reads', 'strong');
	is(psql_err($n3, $read, token => $both, level => 'eventual'), '00000', '... but for eventual');
	is(info($n3, $both, 'on_this_history, history_detail'), 'f|part of it is on another history',
		'... tcs.token_info() knows, too');
	is( info($n3,
			$n3->safe_psql('postgres', "SELECT tcs.merge_tokens('$both', '$on_3')"),
			'on_this_history, history_detail'),
		'f|part of it is on another history',
		'... and it is not healed by merging');

	# only read: what it wrote is on the history of the others
	$session->ok_query("SET tcs.session_token = '$on_3'; SET tcs.read_level = eventual; $read; RESET tcs.read_level");
	my $seen = $session->parameter('tcs.session_token');

	is(psql_err($n3, $read, token => $seen, level => 'monotonic_reads'), 'TC003',
		'what was read on a deposed primary is not forgotten');
	is(psql_err($n3, $read, token => $seen, level => 'read_your_writes'), '00000',
		'... and does not matter to read_your_writes');
	$session->disconnect;
	$n1->stop;
}


##
## The first primary comes back, rewound
##

{
	my $conf = $n1->data_dir . '/postgresql.conf';
	my $own = $n1->basedir . '/postgresql.conf';

	# before 17, pg_rewind takes the timeline of the last checkpoint
	$n3->safe_psql('postgres', 'CHECKPOINT');
	# with its own settings: the source's are copied over them
	copy($conf, $own) or die "$conf: $!";
	$n1->command_ok(
		[
			$n1->installed_command('pg_rewind'), '--no-sync',
			'--target-pgdata', $n1->data_dir,
			'--source-server', $n3->connstr('postgres')
		],
		'pg_rewind');
	copy($own, $conf) or die "$conf: $!";
	$n1->set_standby_mode();
	$n1->enable_streaming($n3);
	$n1->start;
	is(read_at($n1, $read, token => $on_3, max_wait => -1), $value, 'rewound: it follows');
	kept_on('the end of timeline 1', $exact, $n1);
	kept_on('timeline 2', $on_2, $n1);
	lost_on('its own lost write', $lost_1, "forked at $exact_end of timeline 1", $n1);
	lost_on('lost in the second failover', $lost_2, "forked at $lsn of timeline 2", $n1);
	is(read_at($n1, $read, level => 'strong', max_wait => -1), $value, '... and strong is served');
	$n1->stop;
}


##
## A copy restored to a point in time
##

{
	my $copy = PostgreSQL::Test::Cluster->new('copy');
	my $wal = $n3->data_dir . '/pg_wal';

	# A backup of timeline 1, and WAL up to the end of $on_2 on timeline 2.  Who
	# does not know of timeline 3 takes that number.
	$copy->init_from_backup($n1, 'copy');
	$copy->append_conf('postgresql.conf',
		sprintf(qq{restore_command = 'test "%%f" != 00000003.history && cp "%s/%%f" "%%p"'
recovery_target_lsn = '%s'
recovery_target_inclusive = off
recovery_target_timeline = '2'
recovery_target_action = promote
shared_preload_libraries = 'tcs'
}, $wal, info($n3, $on_2, 'written_lsn')));
	$copy->append_conf('recovery.signal', '');
	$copy->start;
	$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');

	my $timeline = $copy->safe_psql('postgres', 'SELECT timeline_id FROM tcs.status');

	is($timeline, '3', 'restored: a timeline of its own, with a number that exists');
	kept_on('the commit it was restored to', $on_2, $copy);
	kept_on('one before', $exact, $copy);
	lost_on('a later one', $on_2_late, "forked at $lsn of timeline 2", $copy);
	lost_on('one of the other timeline 3', $on_3, 'another timeline', $copy);

	# it comes past the same numbers
	$copy->safe_psql('postgres',
		'CREATE TABLE filler AS SELECT repeat($$y$$, 1000) FROM generate_series(1, 600)');
	my $of_copy = write_token($copy, 'INSERT INTO t VALUES (1000)');

	is(info($copy, $of_copy, "timeline_id, written_lsn > (tcs.token_info('$on_3')).written_lsn"), '3|t',
		'... and comes past the same numbers');
	lost_on('one of the other timeline 3', $on_3, 'another timeline', $copy);
	lost_on('a token of the copy', $of_copy, 'another timeline', $n3, $late);
	$copy->stop;
}

done_testing();
