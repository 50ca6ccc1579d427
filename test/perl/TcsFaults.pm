# test/perl/TcsFaults.pm
#
# A primary, a standby whose replay stands still, an heir, and a proxy between the
# first two whose link can be stalled and cut.  Statements are redirected: rows that
# are "new" come from the primary.

package TcsFaults;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

use TcsProxy;
use TcsRedirect;
use TcsResults;
use TcsTest;

our @EXPORT = qw($many $large $endless $read faulty_nodes wait_for_remote
  start_endless count_right outcome_of state_and_message check_session_goes_on);

# A result that no buffer on the way holds.
our $many = 20000;
our $large = "SELECT id, g, v || repeat('x', 990) FROM t, generate_series(1, $many) g WHERE id = 1";

# Longer than any test runs; who runs it has to be ended.
our $endless = "SELECT v, pg_sleep(600) FROM t WHERE id = 1";
our $read = 'SELECT v FROM t WHERE id = 1';

my $proxy;

# (primary, standby, heir, proxy, token of the new rows).  Redirect servers are
# tcs_primary, by_proxy, any_node with three hosts and proxy_first with two.  Returns
# when replay of the standby stands still and the new rows are on the primary.
sub faulty_nodes
{
	my ($primary, $standby, $heir) = new_cluster(
		standbys => 2,
		conf => qq{
max_wal_senders = 20
tcs.max_wait = 0
tcs.redirect_after = 0
tcs.redirect_timeout = '60s'
});

	$proxy = TcsProxy->new($primary->host, $primary->port);
	redirect_to($primary);
	$primary->safe_psql(
		'postgres', sprintf(
			q{
	CREATE SERVER by_proxy FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host '127.0.0.1', port '%s');
	CREATE SERVER any_node FOREIGN DATA WRAPPER tcs_fdw
		OPTIONS (host '%s,%s,%s', port '%s,%s,%s');
	CREATE SERVER proxy_first FOREIGN DATA WRAPPER tcs_fdw
		OPTIONS (host '127.0.0.1,%s', port '%s,%s');
	CREATE USER MAPPING FOR CURRENT_USER SERVER by_proxy;
	CREATE USER MAPPING FOR CURRENT_USER SERVER proxy_first;
	CREATE USER MAPPING FOR CURRENT_USER SERVER any_node;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT i, 'old' FROM generate_series(1, 1000) i;
}, $proxy->port,
			(map { $_->host } ($standby, $primary, $heir)),
			(map { $_->port } ($standby, $primary, $heir)),
			$primary->host, $proxy->port, $primary->port));
	wait_for_replay($primary, $_) foreach ($standby, $heir);
	pause_replay($standby);

	return ($primary, $standby, $heir, $proxy,
		write_token($primary, q{UPDATE t SET v = 'new'}));
}

END
{
	local $?;
	$proxy->stop if $proxy && $proxy->{pid};
}

# Waits until so many statements with this text run on the primary for the standby.
# $at_primary is a client of the primary.  False if it does not come to that.
sub wait_for_remote
{
	my ($at_primary, $count, $pattern) = @_;

	return $at_primary->poll("SELECT count(*) = $count FROM pg_stat_activity"
		  . " WHERE state <> 'idle' AND pid <> pg_backend_pid()"
		  . " AND application_name = 'tcs' AND query LIKE '%$pattern%'");
}

# Starts a statement that does not end, and waits until it runs on the primary.
sub start_endless
{
	my ($at_primary, $client) = @_;

	# the primary may need a second to see that one before has lost its client
	wait_for_remote($at_primary, 0, 'pg_sleep') or die 'another statement has been left';
	$client->simple($endless)->flush;
	wait_for_remote($at_primary, 1, 'pg_sleep') or die 'the statement never came to the primary';
	return;
}

# How many rows of a large result there are, which begin with number $from, if all are
# right; else how many are wrong.
sub count_right
{
	my ($rows, $from) = @_;
	my $wrong = 0;

	foreach my $row (@$rows)
	{
		$wrong++ if $row->[1] != $from++ || $row->[2] ne 'new' . 'x' x 990;
	}
	return $wrong == 0 ? scalar(@$rows) : "$wrong wrong rows";
}

# (SQLSTATE, message and detail) of a result.
sub outcome_of
{
	my ($last) = @_;

	return ($last->{state}, join ': ', map { $last->{error}{$_} // '' } qw(M D));
}

# (SQLSTATE, message and detail) of the last result of some SQL.
sub state_and_message
{
	my ($client, $sql) = @_;

	return outcome_of(($client->query($sql))[-1]);
}

# A check: the client's next read is redirected.
sub check_session_goes_on
{
	my ($what, $client) = @_;

	is(described($client, $read), 'new', "$what: the session's next read is redirected");
	return;
}

1;
