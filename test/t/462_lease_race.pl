# test/t/462_lease_race.pl
#
# A statement's snapshot is taken before the gate looks at the lease.  A lease that was
# granted in between says nothing of that snapshot: something can have been acknowledged
# before it, while no lease was held.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsLease;
use TcsStops;
use TcsTest;
use TcsWire;

# A module that stops a statement where it has its snapshot, and before it comes to
# the gate.
my $folder = PostgreSQL::Test::Utils::tempdir;
my $problem = build_stopping($folder, '/* stop */');

plan skip_all => "the module cannot be built: $problem" if $problem ne '';

my ($primary, $standby) = lease_nodes(
	max_lag => '100ms',
	standby_conf => "shared_preload_libraries = 'tcs,$folder/stopping.so'\n");
my $value = 0;

# Each begins after the write is acknowledged, so has to show it.  The session of the
# last one has seen an earlier lease valid.
foreach my $case (
	[ 'a first statement', 'SET work_mem = 1000', 'SELECT v FROM t /* stop */' ],
	[ 'the extended protocol', 'SET work_mem = 1000', 'SELECT v FROM t /* stop */', 'extended' ],
	[ 'a session that has seen an earlier lease', 'SELECT v FROM t', 'SELECT v FROM t /* stop */' ])
{
	my ($what, $before, $sql, $protocol) = @$case;
	my $session = TcsWire->new($standby, options => '-c tcs.read_level=strong -c tcs.max_wait=-1');

	wait_for_lease($standby);
	$session->ok_query($before);

	# The lease is given back, as replay is late; the next write waits for nobody.
	pause_replay($standby);
	$primary->safe_psql('postgres', 'UPDATE t SET v = v + 1');
	wait_for_no_lease($standby);
	$primary->safe_psql('postgres', 'UPDATE t SET v = v + 1');
	$value += 2;

	append_to_file("$folder/armed", '');
	$protocol //= 'simple';
	$session->$protocol($sql);
	$session->sync if $protocol eq 'extended';
	$session->flush;
	wait_for_file("$folder/reached");
	resume_replay($standby);
	wait_for_lease($standby);
	unlink "$folder/armed", "$folder/reached";
	is(TcsWire::rows_text(($session->results)[0]), $value, "$what shows what was acknowledged before it began");
}

done_testing();

sub wait_for_file
{
	my ($file) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if -e $file;
		$primary->safe_psql('postgres', 'SELECT 1');
	}
	die "$file does not come";
}
