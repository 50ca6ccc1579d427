# test/t/050_told.pl
#
# Who is told what when reads are refused.  An ordinary role is told why, in words
# without hosts and roles of the primary, which only members of pg_read_all_stats
# are shown.  Of several hosts each is told of, in short.  The server log has changes of
# state, and no line of tcs per read.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair(conf => "max_connections = 10\nmax_wal_senders = 5\n");
my $read = 'SELECT v FROM t';
my $host = $primary->host;
my $port = $primary->port;

$primary->safe_psql(
	'postgres',
	q{CREATE TABLE t (v int); INSERT INTO t VALUES (0);
	  CREATE ROLE plain LOGIN; GRANT SELECT ON t TO plain;
	  CREATE ROLE monitor LOGIN IN ROLE pg_read_all_stats; GRANT SELECT ON t TO monitor;
	  CREATE ROLE secret_asker LOGIN; CREATE ROLE secret_replicator LOGIN REPLICATION});
wait_for_replay($primary, $standby);
wait_for_answer($standby);

sub ask_by
{
	my ($conninfo) = @_;

	$standby->append_conf('postgresql.conf', "tcs.primary_conninfo = '$conninfo'");
	$standby->reload;
	return;
}

# What roles are told, in tcs.status and in the error of a read.
sub told_by_role
{
	my ($what, $plain, $monitor) = @_;

	$standby->poll_query_until('postgres',
		"SELECT coalesce(link_state = 'down' AND link_detail ~ '$monitor', false) FROM tcs.status")
	  or die "$what: not known";
	foreach my $case ([ plain => $plain ], [ monitor => $monitor ])
	{
		my ($role, $pattern) = @$case;
		my $status = read_at($standby, 'SELECT link_detail FROM tcs.status', user => $role);
		my ($state, $err) =
		  psql_err($standby, $read, level => 'strong', max_wait => '50ms', user => $role);

		like($status, qr/$pattern/, "$what: tcs.status tells $role why");
		is($state, 'TC004', '... a read is refused');
		like($err, qr/$pattern/, '... and told why');
		next if $role ne 'plain';
		unlike("$status $err", qr/secret_|\Q$host\E|127\.0\.0\.1/, '... without hosts and roles');
	}
	return;
}

my $log = log_position($standby);

ask_by('host=127.0.0.1 port=1 dbname=postgres user=secret_asker');
told_by_role('nobody listens', 'the primary cannot be reached', '127\.0\.0\.1.*refused');
ask_by("host=$host port=$port dbname=postgres user=secret_asker");
told_by_role('no REPLICATION', 'the primary does not admit the connection of the worker', 'permission denied');
ask_by("host=$host port=$port dbname=secret_missing user=secret_replicator");
told_by_role('no database', 'the connection to the primary failed', 'database "secret_missing" does not exist');
ask_by('nonsense');
told_by_role('no connection string', 'tcs.primary_conninfo cannot be parsed', 'tcs.primary_conninfo cannot be parsed: an option has no');

# Several hosts.  libpq tells of a socket by its path.
my $known = 'socket "[^"]*": server is in hot standby mode; "127\.0\.0\.1", port 1: Connection refused';

ask_by(sprintf 'host=%s,127.0.0.1 port=%d,1 dbname=postgres user=secret_replicator', $standby->host, $standby->port);
told_by_role('no primary among them', 'none of the servers asked answers as the primary \(not the primary: 1; not reached: 1\)', $known);
unlike(read_at($standby, 'SELECT link_detail FROM tcs.status'), qr/set tcs\.primary_conninfo/, '... and no advice that is followed');

my @hogs;

while (my $hog = eval { TcsWire->new($primary, user => 'plain') })
{
	push @hogs, $hog;
}
ask_by(sprintf 'host=%s,127.0.0.1,%s port=%d,1,%d dbname=postgres user=secret_replicator',
	$standby->host, $host, $standby->port, $port);
told_by_role('a primary without room', '\(not the primary: 1; not reached: 1; no room for the connection of the worker: 1\)',
	"$known; socket \"[^\"]*\": FATAL: remaining connection slots are reserved for [a-zA-Z_ -]+ \\(raise max_connections on the primary\\)");
$_->disconnect foreach @hogs;
ask_by('nonsense');
told_by_role('again', 'tcs.primary_conninfo cannot be parsed', 'tcs.primary_conninfo cannot be parsed: an option has no');

# What is refused is in the log by core, with its statement.
psql_err($standby, $read, level => 'strong', max_wait => 0) for 1 .. 10;
psql_err($standby, $read, level => 'strong', max_wait => 0, fallback => 'eventual') for 1 .. 10;
$standby->wait_for_log(qr/LOG: .*tcs: reads are refused or served below their level/, $log);

my @lines = log_since($standby, $log) =~ /(?:LOG|WARNING):  .*tcs:.*/g;

is(scalar(@lines), 7, 'the log has a line for each change of state')
  or diag join("\n", @lines);
is(scalar(() = log_since($standby, $log) =~ /WARNING/g), 0, 'warnings go to clients alone');

ask_by('');
is(read_at($standby, $read, level => 'strong', max_wait => -1), 0, 'the primary is asked again');

# When no read has been refused for a minute, the log says so, and the next one is news.
$standby->wait_for_log(qr/LOG: .*tcs: no read has been refused or served below its level for 1 min; \d+ were before/, $log);
$log = log_position($standby);
ask_by('nonsense');
told_by_role('once more', 'tcs.primary_conninfo cannot be parsed', 'tcs.primary_conninfo cannot be parsed');
$standby->wait_for_log(qr/LOG: .*tcs: reads are refused or served below their level/, $log);

like($standby->safe_psql('postgres', 'SELECT library_version FROM tcs.status'),
	qr/^1\.0(?: \([0-9A-Za-z._+\/-]+\))?$/, 'the library tells its version');
like(slurp_file($standby->logfile), qr/LOG: .*tcs: worker started, version 1\.0/, '... in the log, too');

done_testing();
