# test/t/464_lease_faults.pl
#
# Processes and servers that stop, with a lease held: a standby that is gone, a lease
# worker, a walsender or a startup process that stands still, a primary that crashes or
# is succeeded by another one.  What was acknowledged is never missing from a strong
# read, and no commit waits longer than the lease.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsLease;
use TcsTest;

my ($primary, $standby, $other) = lease_nodes(
	standbys => 2,
	duration => '3s',
	max_lag => '200ms',
	primary_conf => "wal_retrieve_retry_interval = 200ms\n");
my $read = 'SELECT v FROM t';
my $value = 0;

sub write_next
{
	my ($node) = @_;

	$node->safe_psql('postgres', 'UPDATE t SET v = ' . ++$value);
	return;
}

# What a strong read gives that may wait, whoever proves it.
sub fresh { return read_at($_[0], $read, level => 'strong', max_wait => -1, fallback => 'error'); }

# A process stands still while something is written, and goes on.
sub stopped
{
	my ($what, $pid) = @_;

	like($pid, qr/^\d+$/, "$what is there") or return;
	kill 'STOP', $pid;
	write_next($primary);
	is($primary->safe_psql('postgres', $read), $value, "$what stands still: a commit is acknowledged");
	is(fresh($other), $value, '... another standby has it');
	kill 'CONT', $pid;
	is(fresh($standby), $value, '... and this one when it goes on');
	wait_for_lease($standby);
	return;
}

sub lease_worker { return $_[0]->safe_psql('postgres', 'SELECT pid FROM tcs.leases'); }

stopped('the lease worker', lease_worker($standby));
stopped('the walsender of its lease',
	$primary->safe_psql('postgres', q{SELECT pid FROM tcs.leases WHERE application_name = 'standby1'}));
stopped('the walsender of its WAL',
	$primary->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_replication WHERE application_name = 'standby1' AND state = 'streaming'}));
stopped('the startup process',
	$standby->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'}));

# A lease that is held by a standby whose lease worker stands still runs out there
# before it does on the primary.  Until then it is a lease.
my $worker = lease_worker($standby);

kill 'STOP', $worker;
my $commit = start_read($primary, 'UPDATE t SET v = ' . ++$value);

ok(waits_for_holders($commit), 'a commit waits for a holder that says nothing');
is((finish_read($commit))[0], '00000', '... until its lease is over');
is($standby->safe_psql('postgres', 'SELECT remaining IS NULL FROM tcs.leases'),
	't', '... and then it is over at the holder, too');
kill 'CONT', $worker;
wait_for_lease($standby);

# A standby that is gone.
$standby->stop('immediate');
write_next($primary);
write_next($primary);
is(fresh($other), $value, 'a standby is gone: commits are acknowledged');
is($primary->safe_psql('postgres', q{SELECT count(*) FROM tcs.leases WHERE application_name = 'standby1'}),
	'0', '... when its lease is over');
$standby->start;
wait_for_lease($standby);
is(fresh($standby), $value, '... it comes back');

# The primary crashes and starts again, while a holder cannot renew.
$worker = lease_worker($standby);
kill 'STOP', $worker;
$primary->stop('immediate');
$primary->start;
write_next($primary);
is($standby->safe_psql('postgres', 'SELECT remaining IS NULL FROM tcs.leases'),
	't', 'a primary that starts again acknowledges nothing before the leases are over');
kill 'CONT', $worker;
is(fresh($standby), $value, '... the standby has it');
wait_for_lease($standby);
wait_for_lease($other);

# The other standby is promoted, while the holder still has the lease of the former primary.
$worker = lease_worker($standby);
kill 'STOP', $worker;
$primary->stop('immediate');
$other->promote;
write_next($other);
is($standby->safe_psql('postgres', 'SELECT remaining IS NULL FROM tcs.leases'),
	't', 'a standby that was promoted acknowledges nothing before the leases are over');
like(slurp_file($other->logfile), qr/tcs: no commit is acknowledged for \d+ ms/, '... and logs it');
kill 'CONT', $worker;

# Twice in a row, with another duration in between.
$standby->append_conf('postgresql.conf',
	'primary_conninfo = ' . q{'} . $other->connstr . q{ application_name=standby1'});
$standby->reload;
wait_for_lease($standby);
is(strong_read($standby, $read), "$value|t", 'the standby follows, and gets a lease of the new primary');
write_next($other);
is(strong_read($standby, $read), "$value|t", '... which keeps it fresh');
$standby->promote;
write_next($standby);
is(read_at($standby, $read, level => 'strong'), $value, 'the second promotion');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM tcs.leases'), '0', '... its own lease is of no use any more');

done_testing();
