# test/perl/TcsLease.pm
#
# Read leases: a primary that grants them, standbys that hold one, a commit that
# waits for them.
#
#     my ($primary, $standby) = lease_nodes();
#     wait_for_lease($standby);
#     my $commit = start_read($primary, 'INSERT INTO t VALUES (1)');
#     ok(waits_for_holders($commit));

package TcsLease;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use TcsTest;

our @EXPORT = qw(lease_nodes wait_for_lease wait_for_no_lease
  waits_for_holders strong_read);

# lease_nodes(standbys => 1, duration => '10s', max_lag => '10s', conf => '',
#             standby_conf => '')
#
# ($primary, @standbys), with a table t (v int) that has one row of 0.  Nothing runs
# out by itself while a test looks, unless it says otherwise.
sub lease_nodes
{
	my (%opt) = @_;
	my $duration = $opt{duration} // '10s';
	my $max_lag = $opt{max_lag} // '10s';
	my $conf = $opt{conf} // '';
	my $own = $opt{standby_conf} // '';

	# No leases while the nodes are made, and no notice before they are longer.
	my ($primary, @standbys) = new_cluster(
		standbys => $opt{standbys} // 1,
		conf => $conf,
		primary_conf => $opt{primary_conf} // '',
		standby_conf => "tcs.lease = on\ntcs.lease_max_lag = $max_lag\n"
		  . "tcs.lease_duration = $duration\n$own");

	$primary->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (0)');
	$primary->stop;
	append_to_file($primary->data_dir . '/tcs_longest_lease', "10000000 10000000\n");
	$primary->append_conf('postgresql.conf', "tcs.lease_duration = $duration\n");
	$primary->start;
	wait_for_lease($_) foreach @standbys;
	return ($primary, @standbys);
}

sub _wait_for_state
{
	my ($standby, $condition) = @_;

	$standby->poll_query_until('postgres', "SELECT $condition FROM tcs.leases")
	  or die $standby->name . ': ' . $standby->safe_psql('postgres', 'TABLE tcs.leases');
	return;
}

sub wait_for_lease { return _wait_for_state($_[0], q{state = 'holds' AND remaining IS NOT NULL}); }
sub wait_for_no_lease { return _wait_for_state($_[0], 'remaining IS NULL'); }

# Whether it comes to wait for them, instead of ending.
sub waits_for_holders
{
	my ($commit) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 0 if !read_running($commit);
		return 1
		  if $commit->{node}->safe_psql('postgres',
			"SELECT wait_event IN ('TcsLease', 'Extension') FROM pg_stat_activity WHERE pid = $commit->{pid}") eq 't';
	}
	return 0;
}

# What a strong read gives, and whether a lease has proved it: "1|t".
sub strong_read
{
	my ($standby, $sql, %opt) = @_;

	return read_at($standby, "$sql\n;\nSELECT by_lease FROM tcs.last_read",
		level => 'strong', fallback => 'error', %opt) =~ s/\n/|/gr;
}

1;
