# test/perl/TcsRedirect.pm
#
# Reads that a standby sends to the primary: clients whose reads have to go there,
# and whether they went.

package TcsRedirect;

use strict;
use warnings;

use Exporter 'import';

use TcsWire;

our @EXPORT = qw(redirect_session redirected both wait_for_connections);

# redirect_session($standby, $token, server => name, set => SQL, ...)
#
# A TcsWire client of the standby that asks for $token, by the redirect server of
# that name where one is given.  SQL is run then.  Other options are those of
# TcsWire->new.
sub redirect_session
{
	my ($standby, $token, %opt) = @_;
	my $server = delete $opt{server};
	my $set = delete $opt{set};
	my $client = TcsWire->new($standby, %opt);

	$client->ok_query("SET tcs.session_token = '$token'");
	$client->ok_query("SET tcs.redirect_server = '$server'") if defined $server;
	$client->ok_query($set) if defined $set;
	return $client;
}

# How many reads the standby of client $look has redirected.
sub redirected
{
	my ($look) = @_;

	return $look->ok_query('SELECT sum(redirected) FROM tcs_internal.stat_reads()');
}

# The statement must succeed at both clients.
sub both
{
	my ($one, $other, $sql) = @_;

	$_->ok_query($sql) foreach ($one, $other);
	return;
}

# Waits until the standby of client $look has so many connections to the primary.
# False if it does not come to that.
sub wait_for_connections
{
	my ($look, $count) = @_;

	return $look->poll("SELECT connections = $count FROM tcs.stat_redirects");
}

1;
