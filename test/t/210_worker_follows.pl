# test/t/210_worker_follows.pl
#
# The worker of a standby asks whoever is primary, and nobody else's answer
# counts.  Several hosts, of which the first is a standby or a deposed primary
# that still runs; settings changed by a reload; a peer that is promoted, or
# becomes a standby, or a name that leads elsewhere; cascading standbys, which
# have to ask past their upstream; a standby that is past the place where the
# server it asks left the history; and two timelines of one number.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsNodes;
use TcsTest;
use TcsWire;
use TcsWrites;

use IO::Socket::INET;

my $read = 'SELECT max(v) FROM t';
my $value = 0;

# The next write.
my $write_next = counted_write(\$value, 'INSERT INTO t VALUES (%d)');

# libpq's words for one or several nodes.
sub conninfo_of
{
	my (@nodes) = @_;

	return sprintf('host=%s port=%s',
		join(',', map { $_->host } @nodes),
		join(',', map { $_->port } @nodes));
}

# A strong read sees what was just written on the primary, once the node is on
# its timeline: a change of that while it waits would be an error of its own.
sub strong_sees
{
	my ($node, $written_on, $what) = @_;

	read_at($node, $read, token => $write_next->($written_on), max_wait => -1);
	$write_next->($written_on);
	is(read_at($node, $read, level => 'strong', max_wait => -1), $value, $what);
	return;
}

# How many workers of this name ask a node.
sub asked_by
{
	my ($node, $name) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM tcs_internal.askers() WHERE application_name = '$name'");
}

my ($old, $new, $standby) = new_cluster(standbys => 2);

$old->safe_psql('postgres', 'CREATE TABLE t (v int)');
wait_for_replay($old, $_) foreach ($new, $standby);


##
## Cascading, and primary_conninfo with several hosts
##

# The WAL receiver takes the first host that is there, a standby.
configure($standby,
	sprintf(q{primary_conninfo = '%s application_name=standby2'}, conninfo_of($new, $old)));
$new->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = 'standby2'})
  or die 'the WAL receiver did not take the first host';
strong_sees($standby, $old, 'primary_conninfo with a standby first: the primary is asked');
link_says($standby, 'up', '^$', '... and the link is up');
is(asked_by($old, 'standby2') . asked_by($new, 'standby2'), '10', '... to the primary alone');

# Only the upstream is known, and is a standby.
configure($standby, sprintf(q{primary_conninfo = '%s application_name=standby2'}, conninfo_of($new)));
link_says($standby, 'refused', 'itself a standby; set tcs.primary_conninfo to the primary',
	'the derived connection follows a reload of primary_conninfo');
foreach my $level ('strong', 'bounded')
{
	# an answer of earlier still counts for what it says
	$standby->poll_query_until('postgres', 'SELECT last_answer_age > make_interval(secs => 0.1) FROM tcs.status');
	my ($state, $err) = psql_err($standby, $read,
		level => $level, max_staleness => '100ms', max_wait => '200ms');

	is($state, 'TC004', "a standby of a standby: $level does not know");
	like($err, qr/itself a standby; set tcs.primary_conninfo to the primary/,
		'... and what to set is told');
}
is( read_at($standby, $read, token => $write_next->($old), max_wait => -1),
	$value, '... session waits for what comes over the upstream');

# The root is set; its nodes may change places.
configure($standby,
	sprintf(q{tcs.primary_conninfo = '%s dbname=postgres target_session_attrs=read-write'},
		conninfo_of($new, $old)));
strong_sees($standby, $old, 'the root primary is found among several hosts');

# A list that says nothing of what is wanted, or the wrong thing.
foreach my $attrs ('', 'target_session_attrs=any', 'target_session_attrs=standby')
{
	configure($standby, sprintf(q{tcs.primary_conninfo = '%s dbname=postgres %s'},
			conninfo_of($new, $old), $attrs));
	$old->poll_query_until('postgres', q{SELECT count(*) = 1 FROM tcs_internal.askers() a
		JOIN pg_stat_activity p USING (pid) WHERE p.backend_type = 'client backend'
		AND p.backend_start > clock_timestamp() - interval '10 s'});
	strong_sees($standby, $old, "... with \"$attrs\", too");
}

# No primary among them.
configure($standby, sprintf(q{tcs.primary_conninfo = '%s dbname=postgres'}, conninfo_of($new, $standby)));
link_says($standby, 'down', 'set tcs.primary_conninfo to all nodes that can be the primary',
	'no primary in the list: what to set is told');


##
## A peer that is promoted while it is asked
##

configure($standby, q{tcs.primary_conninfo = ''});
link_says($standby, 'refused', 'itself a standby', 'the upstream is asked again');
$write_next->($old);
wait_for_replay($old, $_) foreach ($new, $standby);

my $asker = $new->safe_psql('postgres', 'SELECT pid FROM tcs_internal.askers()');
my $log = log_position($standby);

$old->stop('immediate');
$new->promote;
strong_sees($standby, $new, 'the peer is promoted: it can be asked');
is($new->safe_psql('postgres', 'SELECT pid FROM tcs_internal.askers()'), $asker,
	'... over the same connection');
is( $standby->safe_psql('postgres', 'SELECT timeline_id, link_state FROM tcs.status'),
	'2|up', '... on its timeline');
like(log_since($standby, $log), qr/followed the primary to timeline 2/, '... the log has it');


##
## A deposed primary that still runs
##

$old->start;
$old->safe_psql('postgres', 'INSERT INTO t VALUES (1000000)');
configure($standby,
	sprintf(q{tcs.primary_conninfo = '%s dbname=postgres'}, conninfo_of($old)));
link_says($standby, 'refused', 'deposed', 'the deposed primary alone');
configure($standby,
	sprintf(q{tcs.primary_conninfo = '%s dbname=postgres target_session_attrs=read-write'},
		conninfo_of($old, $new)));
strong_sees($standby, $new, 'the deposed primary first in the list: the next one is asked');
link_says($standby, 'up', '^$', '... and the link is up');

# A name, or a proxy, that leads to the deposed one first, and later elsewhere.
# The connection that there is stays.
SKIP:
{
	skip 'sockets have no names here', 3 if !$PostgreSQL::Test::Utils::use_unix_sockets;
	my $folder = PostgreSQL::Test::Utils::tempdir_short();
	my $name = "$folder/.s.PGSQL.5432";
	my $socket_of = sub { return $_[0]->host . '/.s.PGSQL.' . $_[0]->port };

	symlink($socket_of->($old), $name) or die "symlink: $!";
	configure($standby,
		qq{tcs.primary_conninfo = 'host=$folder port=5432 dbname=postgres'});
	link_says($standby, 'refused', 'deposed', 'a name that leads to the deposed primary');
	unlink($name);
	symlink($socket_of->($new), $name) or die "symlink: $!";
	link_says($standby, 'up', '^$', 'it leads to the new one: the worker connects anew');
	strong_sees($standby, $new, '... and is answered');
}


##
## Hosts that hang: each has a limit of its own, and the next one has its turn
##

# Takes connections, as the kernel does for a stopped process.
sub silent_host
{
	return IO::Socket::INET->new(Listen => 8, LocalAddr => '127.0.0.1') // die "listen: $!";
}

# The silent ones first, then the node.
sub list_with_silent
{
	my ($node, @silent) = @_;

	return sprintf(q{tcs.primary_conninfo = 'host=%s port=%s dbname=postgres sslmode=disable'},
		join(',', ('127.0.0.1') x @silent, $node->host),
		join(',', (map { $_->sockport } @silent), $node->port));
}

my @silent = (silent_host(), silent_host());

configure($standby, list_with_silent($new, @silent));
strong_sees($standby, $new, 'hosts that take connections and are silent: the next one is asked');
link_says($standby, 'up', '^$', '... and the link is up');

# Silence in the middle of the start-up.
my $stalling = silent_host();

configure($standby, list_with_silent($new, $stalling));
$stalling->timeout($PostgreSQL::Test::Utils::timeout_default);
my $stalled = $stalling->accept // die 'the first host was not tried';
$stalled->syswrite(pack('a1 N N a1 n', 'R', 8, 0, 'S', 0));
strong_sees($standby, $new, 'a host that stalls during the start-up: the next one is asked');

# None of use.
configure($standby, list_with_silent($old, $stalling));
link_says($standby, 'refused', 'deposed', 'a host that hangs, and a deposed primary');
configure($standby,
	sprintf(q{tcs.primary_conninfo = 'host=127.0.0.1,127.0.0.1 port=%s,%s dbname=postgres'},
		map { $_->sockport } @silent));
link_says($standby, 'down', 'timeout expired; .*timeout expired', 'all hosts hang: each is told of');
close($_) foreach (@silent, $stalling, $stalled);

$old->stop('immediate');


##
## A peer that becomes a standby, and a primary again
##

configure($standby, q{tcs.primary_conninfo = ''});
strong_sees($standby, $new, 'before the primary becomes a standby');
$new->stop('fast');
$new->append_conf('postgresql.conf', q{primary_conninfo = ''});
$new->set_standby_mode();
$new->start;
link_says($standby, 'refused', 'itself a standby', 'the primary has become a standby');
is(psql_err($standby, $read, level => 'strong', max_wait => '200ms'),
	'TC004', '... strong does not know');
$new->promote;
strong_sees($standby, $new, '... and a primary again');
is($standby->safe_psql('postgres', 'SELECT timeline_id FROM tcs.status'), '3', '... on timeline 3');
$_->stop foreach ($standby, $new);


##
## Answers of a timeline that this standby will not follow
##

my ($first, $left, $right) = new_cluster(prefix => 'fork_', standbys => 2);

$value = 0;
$first->safe_psql('postgres', 'CREATE TABLE t (v int)');
$write_next->($first);

# Asks a standby, so it has no answers yet.
my $torn = new_standby($first, 'torn',
	conf => sprintf(q{tcs.primary_conninfo = '%s dbname=postgres'}, conninfo_of($left)) . "\n");
my @patience = (level => 'bounded', max_staleness => '1h', max_wait => '200ms');

link_says($torn, 'refused', 'itself a standby', 'no answer so far');
wait_for_replay($first, $_) foreach ($left, $right, $torn);
configure($left, q{primary_conninfo = ''});
$left->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver');

$left->promote;
$left->safe_psql('postgres',
	'CREATE TABLE filler AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 200)');
link_says($torn, 'up', '^$', 'a newer timeline that can be followed to: the answers count');
$torn->poll_query_until('postgres', 'SELECT primary_lsn > replay_lsn FROM tcs.status')
  or die 'no answer beyond what is replayed';

# The worker does not look while the standby goes another way.
my $worker = $torn->safe_psql('postgres', 'SELECT worker_pid FROM tcs.status');

kill('STOP', $worker);
$write_next->($first);
wait_for_replay($first, $torn);
isnt(psql_err($torn, $read, @patience), '00000',
	'past the place where that timeline began, by another way: its answers prove nothing');
kill('CONT', $worker);
link_says($torn, 'refused', 'does not descend', '... and more of them do not count');
my ($state, $err) = psql_err($torn, $read, level => 'strong', max_wait => '200ms');

is($state, 'TC004', '... strong does not know');
like($err, qr/does not descend from what this standby has replayed/, '... and says why');

# Another timeline of the same number, which comes past the same positions.
wait_for_replay($first, $right);
kill('STOP', $worker);
$first->stop('immediate');
$right->promote;
$right->safe_psql('postgres',
	'CREATE TABLE filler AS SELECT repeat($$y$$, 1000) FROM generate_series(1, 2000)');
configure($torn, sprintf(q{primary_conninfo = '%s'}, conninfo_of($right)));
wait_for_replay($right, $torn);
is( $torn->safe_psql('postgres',
		'SELECT timeline_id, primary_lsn < replay_lsn, staleness IS NULL FROM tcs.status'),
	'2|t|t',
	'another timeline of that number: what was answered on the first is no proof');
is(psql_err($torn, $read, @patience), 'TC004', '... and nothing is served on its strength');
kill('CONT', $worker);
link_says($torn, 'refused', 'does not descend', '... the worker sees it');
configure($torn, sprintf(q{tcs.primary_conninfo = '%s dbname=postgres'}, conninfo_of($right)));
strong_sees($torn, $right, '... and asks whom it is told to');

done_testing();
