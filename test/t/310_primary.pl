# test/t/310_primary.pl
#
# Reads on the primary, and what a failover leaves.  A commit can be replayed
# and read on a standby while its own session on the primary still waits for a
# synchronous standby: who has seen it there and reads on the primary must wait
# for it, and nobody else.  After a failover a token of the old timeline is
# fine up to the fork and lost behind it, whatever the numbers say; a standby
# that has not yet come to a token's timeline waits; a deposed primary is not
# believed; a token of another cluster is refused.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $standby, $slow) = new_cluster(standbys => 2);
my $read = 'SELECT v FROM t WHERE id = 1';
my $value = 0;

$primary->safe_psql('postgres',
	q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0), (2, 0)});
wait_for_replay($primary, $_) foreach ($standby, $slow);
wait_for_answer($_) foreach ($standby, $slow);

my $writer = TcsWire->new($primary);

# Commits that wait for a synchronous standby; '' for none.
sub set_synchronous
{
	my ($names) = @_;

	# This session itself must not wait.
	local $ENV{PGOPTIONS} = '-c synchronous_commit=local';
	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '$names'");
	$primary->reload;
	$primary->poll_query_until('postgres',
		"SELECT current_setting('synchronous_standby_names') = '$names'")
	  or die 'the setting was not read';
	$primary->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_replication
		  WHERE application_name = 'standby2' AND sync_state <> 'async'})
	  if $names eq 'standby2';
	return;
}

# What a reader of the standby sees as soon as the value is there.
my $reader = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

sub seen_on_standby
{
	$reader->poll("SELECT v = $value FROM t WHERE id = 1")
	  or die 'the standby does not show the commit';
	return $reader->ok_query('SELECT tcs.session_token()');
}

# The commit hangs, the standby shows it, the primary does not.  $release lets
# it go.
sub check_hanging
{
	my ($what, $before, $release) = @_;
	my $token = seen_on_standby();

	is(read_at($primary, $read, level => 'eventual', token => $token),
		$before, "$what: the primary does not show what the standby shows");
	is(psql_err($primary, $read, token => $token, max_wait => 0),
		'TC001', '... who has seen it there is told so');
	is(psql_err($primary, $read, token => $token, max_wait => '50ms'),
		'TC001', '... after a wait, too');
	is( psql_err(
			$primary, $read,
			token => $token,
			level => 'monotonic_reads',
			max_wait => '10ms'),
		'TC001',
		'... at monotonic_reads');
	is( read_at(
			$primary, $read,
			token => $token,
			level => 'read_your_writes',
			max_wait => 0),
		$before,
		'... who asks for his own writes only need not wait');
	is(read_at($primary, $read, max_wait => 0), $before, '... nor who has not seen it');
	is(read_at($primary, $read, level => 'strong', max_wait => 0),
		$before, '... nor who asks for what was acknowledged');
	like(
		scalar psql_err(
			$primary, "BEGIN ISOLATION LEVEL REPEATABLE READ;\n$read",
			token => $token,
			max_wait => 0),
		qr/^(TC001|40001)$/,
		'... REPEATABLE READ is refused as well');

	# What a wait in vain has seen proves nothing for the next statement.
	my $again = TcsWire->new($primary);

	$again->ok_query("SET tcs.session_token = '$token'; SET tcs.max_wait = 5");
	is(join(' ', map { ($again->query($_))[0]{state} } ($read, $read, 'BEGIN', $read)),
		'TC001 TC001 00000 TC001', '... and so is a second read, and one in a block');
	$again->query('ROLLBACK');
	is(($again->query("CALL tcs.wait_for('$token', '5 ms')"))[0]{state} . ' '
		  . ($again->query($read))[0]{state},
		'TC001 TC001', '... and one after tcs.wait_for()');
	$again->disconnect;

	# A write that need not wait for the standby, and its own reads.
	my $own = TcsWire->new($primary, options => '-c synchronous_commit=local');

	$own->ok_query('UPDATE t SET v = v + 1 WHERE id = 2');
	$own->ok_query('SET tcs.max_wait = 0');
	is($own->ok_query($read), $before, '... own commits are not waited for');
	is( read_at(
			$primary, $read,
			token => $own->parameter('tcs.session_token'),
			max_wait => 0),
		$before,
		'... nor written positions of others');
	$own->disconnect;

	# Reads of all kinds that wait until it is let go.
	my @waiting = map { TcsWire->new($primary) } 1 .. 4;

	$_->ok_query('SET tcs.max_wait = -1') foreach @waiting;
	$waiting[0]->ok_query("SET tcs.session_token = '$token'");
	$waiting[0]->simple($read);
	$waiting[1]->ok_query("BEGIN; SELECT 1; SET LOCAL tcs.session_token = '$token'");
	$waiting[1]->simple($read);
	$waiting[2]->ok_query("SET tcs.session_token = '$token'");
	$waiting[2]->simple("BEGIN ISOLATION LEVEL REPEATABLE READ; $read");
	$waiting[3]->simple("CALL tcs.wait_for('$token', '1 h')");
	$_->flush foreach @waiting;
	my $pids = join(', ', map { $_->pid } @waiting);

	$primary->poll_query_until('postgres',
		"SELECT count(*) = 4 FROM pg_stat_activity WHERE state = 'active'"
		  . " AND pid IN ($pids) AND wait_event IN ('Extension', 'TcsCommit')")
	  or die 'the reads do not wait';
	$release->();
	is(TcsWire::describe_result(($_->results)[-1]), $value, '... and is served when it is over')
	  foreach @waiting[ 0 .. 2 ];
	is(TcsWire::describe_result(($waiting[3]->results)[-1]), '', '... tcs.wait_for() as well');
	is(read_at($primary, $read, token => $token, max_wait => 0), $value, '... for good');
	$_->disconnect foreach @waiting;
	return;
}


##
## Commits under way
##

# a standby that does not exist
set_synchronous('nobody');
$value++;
$writer->simple("UPDATE t SET v = $value WHERE id = 1")->flush;
check_hanging('a commit without its standby', $value - 1, sub { set_synchronous('') });
is(($writer->results)[0]{tag}, 'UPDATE 1', 'the commit ends');

# one that receives and does not apply
pause_replay($slow);
set_synchronous('standby2');
$value++;
$writer->simple(
	"SET synchronous_commit = remote_apply; UPDATE t SET v = $value WHERE id = 1")->flush;
check_hanging('remote_apply', $value - 1, sub { resume_replay($slow) });
is(($writer->results)[1]{tag}, 'UPDATE 1', 'the commit ends');
$writer->ok_query('RESET synchronous_commit');
set_synchronous('');

# COMMIT PREPARED
$value++;
$writer->ok_query("BEGIN; UPDATE t SET v = $value WHERE id = 1; PREPARE TRANSACTION 'p'");
set_synchronous('nobody');
$writer->simple(q{COMMIT PREPARED 'p'})->flush;
check_hanging('COMMIT PREPARED', $value - 1, sub { set_synchronous('') });
is(($writer->results)[0]{tag}, 'COMMIT PREPARED', 'the commit ends');

# A session that is told to go while its commit hangs gives its place back.
set_synchronous('nobody');
$value++;
my $victim = TcsWire->new($primary);

$victim->simple("UPDATE t SET v = $value WHERE id = 1")->flush;
my $token = seen_on_standby();

is(psql_err($primary, $read, token => $token, max_wait => 0),
	'TC001', 'a commit whose session is about to be terminated');
$writer->ok_query('SELECT pg_terminate_backend(' . $victim->pid . ')');
$victim->results;
is(read_at($primary, $read, token => $token, max_wait => -1),
	$value, '... is visible after its end');
set_synchronous('');


##
## Failover
##

# Before the fork: with and without another record after it.
$value++;
$writer->ok_query("UPDATE t SET v = $value WHERE id = 1");
my $kept = $writer->parameter('tcs.session_token');

wait_for_replay($primary, $_) foreach ($standby, $slow);

# Behind it: the standbys do not get it any more.
foreach my $node ($standby, $slow)
{
	$node->append_conf('postgresql.conf', q{primary_conninfo = ''});
	$node->reload;
	$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
	  or die 'the WAL receiver did not end';
}
$writer->ok_query('UPDATE t SET v = -1 WHERE id = 1');
my $lost = $writer->parameter('tcs.session_token');
my $lost_lsn = $primary->safe_psql('postgres',
	"SELECT written_lsn FROM tcs.token_info('$lost')");

is(psql_err($standby, $read, token => $lost, max_wait => 0),
	'TC001', 'before the failover, what did not arrive is late');
$primary->stop('immediate');
$standby->promote;

is(read_at($standby, $read, token => $kept, max_wait => 0),
	$value, 'the new primary has what the token of the old timeline names');
is(read_at($standby, $read, token => $token, max_wait => 0),
	$value, '... also what was seen on it when it was a standby');
my ($state, $err) = psql_err($standby, $read, token => $lost, max_wait => -1);

is($state, 'TC003', 'behind the fork it is lost');
like($err, qr/Needed|names $lost_lsn of timeline 1, which this server's history left at/,
	'... and where is told');
is(psql_err($standby, "CALL tcs.wait_for('$lost')"), 'TC003', 'tcs.wait_for() says the same');
is(psql_err($standby, $read, token => $lost, level => 'strong'),
	'TC003', 'a strong read does not hide it');
is(read_at($standby, $read, token => $lost, level => 'eventual'),
	$value, 'eventual does not look');
like(
	$standby->safe_psql('postgres',
		"SELECT on_this_history, history_detail, reached_here IS NULL FROM tcs.token_info('$lost')"),
	qr/^f\|forked at .* of timeline 1\|t$/,
	'tcs.token_info() tells the fork');

# The numbers of the new timeline overtake those of the old one.
my $new_writer = TcsWire->new($standby);

$new_writer->ok_query('CREATE TABLE filler AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 200)');
$value++;
$new_writer->ok_query("UPDATE t SET v = $value WHERE id = 1");
my $new = $new_writer->parameter('tcs.session_token');

is($new_writer->ok_query("SELECT written_lsn > '$lost_lsn' FROM tcs.token_info('$new')"),
	't', 'the new timeline has come to the same numbers');
is(psql_err($standby, $read, token => $lost), 'TC003', '... and what is lost stays lost');
is(read_at($standby, $read, token => $kept), $value, '... and what was kept, kept');
is( $new_writer->ok_query(
		"SELECT timeline_id, on_this_history, reached_here FROM tcs.token_info('$new')"),
	'2|t|t',
	'tokens of the new timeline');

# Where exactly it forked.
my $fork = $new_writer->ok_query("SELECT timeline_begin_lsn FROM tcs.token_info('$new')");

is( $new_writer->ok_query(
		"SELECT (tcs.token_info(tcs.merge_tokens('$kept', '$new'))).timeline_id"),
	'2',
	'tokens on both sides of the fork merge');
is(psql_err($standby, "SELECT tcs.merge_tokens('$lost', '$new')"),
	'TC003', 'one that is lost does not');
is(psql_err($slow, "SELECT tcs.merge_tokens('$kept', '$new')"),
	'TC004', 'nor does a node merge what it does not know yet');


##
## A standby that has not followed yet
##

is(read_at($slow, $read, token => $kept, max_wait => 0),
	$value - 1, 'a standby on the old timeline has what is before the fork');
($state, $err) = psql_err($slow, $read, token => $new, max_wait => '50ms');
is($state, 'TC001', 'what is behind it on the new timeline, not yet');
like($err, qr/of timeline 2, reached .* of timeline 1/, '... and which timelines is told');
is($slow->safe_psql('postgres', "SELECT on_this_history IS NULL, reached_here FROM tcs.token_info('$new')"),
	't|f', '... by tcs.token_info(), too');

# A number below what is replayed, of the timeline to come.
my $waiting = start_read($slow, $read, token => $new, max_wait => -1);

wait_for_waiters($slow);
$slow->enable_streaming($standby);
$slow->reload;
is(finish_read($waiting), $value, 'it is waited for until the standby has followed');
is(psql_err($slow, $read, token => $lost, max_wait => 0),
	'TC003', 'now the standby knows what is lost');
is(read_at($slow, $read, token => $kept, max_wait => 0), $value, '... and what is not');
is(read_at($slow, $read, level => 'strong', max_wait => -1),
	$value, 'strong asks the new primary');
is($slow->safe_psql('postgres', 'SELECT timeline_id FROM tcs.status'), '2', 'on its timeline_id');
like(slurp_file($slow->logfile), qr/tcs: this standby has followed the primary to timeline 2/,
	'the log has it');


##
## The deposed primary
##

$primary->start;
($state, $err) = psql_err($primary, $read, token => $new, max_wait => 0);
is($state, 'TC001', 'the deposed primary is on an older timeline than the token');
like($err, qr/not the primary any more/, '... and says so');
is(read_at($primary, $read, token => $lost, max_wait => 0),
	'-1', 'to its own history it is true');

# The standby of the new primary does not believe it.
my ($host, $port) = ($primary->host, $primary->port);

$slow->append_conf('postgresql.conf',
	"tcs.primary_conninfo = 'host=$host port=$port dbname=postgres'");
$slow->reload;
$slow->poll_query_until('postgres',
	q{SELECT coalesce(link_state = 'refused' AND link_detail ~ 'deposed', false) FROM tcs.status})
  or die 'the deposed primary was believed';
($state, $err) = psql_err($slow, $read, level => 'strong', max_wait => '300ms');
is($state, 'TC004', 'answers of a deposed primary do not count');
like($err, qr/deposed/, '... and why is told');
$value++;
$new_writer->ok_query("UPDATE t SET v = $value WHERE id = 1");
is( read_at(
		$slow, $read,
		token => $new_writer->parameter('tcs.session_token'),
		max_wait => '60s'),
	$value,
	'session is not disturbed');


##
## Another cluster
##

my $foreign = new_primary('foreign');
my $foreign_token =
  write_token($foreign, 'CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 1)');

foreach my $node ($standby, $slow)
{
	is(psql_err($node, $read, token => $foreign_token, max_wait => -1),
		'TC002', $node->name . ': a token of another cluster is refused at once');
}
is(psql_err($foreign, $read, token => $new, max_wait => -1), 'TC002', 'and the other way round');
is(psql_err($foreign, 'SELECT 1', token => $new), '00000', 'SET takes it, and what reads nothing');



##
## Standbys that ask are no burden for those who commit
##

# Before 16 each commit wakes all walsenders, and this one has nothing to do.
sub asleep
{
	my ($pid) = @_;

	return PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~
	  /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die "no process $pid";
}

my ($lead, $follower) =
  new_pair(prefix => 'calm_', standby_conf => "tcs.probe_interval = '1h'\n");

$lead->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (0)');
wait_for_replay($lead, $follower);
is(read_at($follower, 'SELECT v FROM t', level => 'strong', max_wait => '30s'), '0', 'a question was asked');

my $asker = $lead->safe_psql('postgres', 'SELECT pid FROM tcs_internal.askers()');
my $slept = asleep($asker);

$lead->safe_psql('postgres', 'UPDATE t SET v = v + 1;' x 300);
$lead->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1 .. 300 LOOP UPDATE t SET v = v + 1; COMMIT; END LOOP; END \$\$");
cmp_ok(asleep($asker) - $slept, '<', 100, 'commits do not wake the process that answers standbys');

done_testing();
