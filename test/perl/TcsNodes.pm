# test/perl/TcsNodes.pm
#
# Nodes that change while a test runs: settings, pg_hba.conf, whom a standby
# follows, and what a standby says of its link to the primary.

package TcsNodes;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

our @EXPORT = qw(configure set_hba follow cut_off wait_for_link link_says wait_for_status);

# Changes settings of a node by lines in its file, which no statement in a log
# shows, and has it read again.  Does not wait until all processes have read it.
sub configure
{
	my ($node, @lines) = @_;

	$node->append_conf('postgresql.conf', join("\n", @lines));
	$node->reload;
	return;
}

# Replaces pg_hba.conf by the lines, and waits until $query, which looks at
# pg_hba_file_rules, returns "t".  A reload is over when a session sees it.
sub set_hba
{
	my ($node, $query, @lines) = @_;

	unlink($node->data_dir . '/pg_hba.conf');
	$node->append_conf('pg_hba.conf', join("\n", @lines));
	$node->reload;
	$node->poll_query_until('postgres', $query) or die 'pg_hba.conf was not read';
	return;
}

# Has a standby that runs receive its WAL from $upstream.  Does not wait for it.
sub follow
{
	my ($standby, $upstream) = @_;

	$standby->enable_streaming($upstream);
	$standby->reload;
	return;
}

# No more WAL for standbys than they have.  Returns when their WAL receivers have
# ended.
sub cut_off
{
	my (@standbys) = @_;

	foreach my $standby (@standbys)
	{
		configure($standby, q{primary_conninfo = ''});
		$standby->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
		  or die 'the WAL receiver did not end';
	}
	return;
}

# Waits until a standby's link is in $state for a reason that matches $reason (a
# regular expression of the server; there may be no reason where it matches '').
# False if it does not come to that.
sub wait_for_link
{
	my ($node, $state, $reason) = @_;

	return $node->poll_query_until('postgres',
		"SELECT coalesce(link_state = '$state' AND coalesce(link_detail, '') ~ '$reason', false) FROM tcs.status");
}

# A check named $what that wait_for_link is true.
sub link_says
{
	my ($node, $state, $reason, $what) = @_;

	ok(wait_for_link($node, $state, $reason), $what)
	  or diag $node->safe_psql('postgres', 'SELECT link_state, link_detail FROM tcs.status');
	return;
}

# Waits until a condition on the row of tcs.status is true.
sub wait_for_status
{
	my ($node, $condition) = @_;

	$node->poll_query_until('postgres', "SELECT $condition FROM tcs.status")
	  or die $node->name . ": not so: $condition";
	return;
}

1;
