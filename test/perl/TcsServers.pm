# test/perl/TcsServers.pm
#
# A primary, two standbys and another cluster, with roles and redirect servers of
# all kinds, for tests of the redirect server. Replay of the first standby stands
# still: rows that are "new" come from the primary, "old" ones from the standby.
#
# server_nodes() fills the variables: nodes $primary, $standby, $second, $other;
# $at_standby, a client of the standby that only looks; $major, the version;
# $token, that of the new rows.

package TcsServers;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsNodes;
use TcsRedirect;
use TcsResults;
use TcsTest;
use TcsWire;

our @EXPORT = qw($read $endless $large $secret $room @roles $primary $standby $second
  $other $major $at_standby $token server_nodes options_of create_server
  part answer_of redirects check_refused configure_standby remote_pids
  no_password_logged);

our $read = 'SELECT v FROM t WHERE id = 1';
our $endless = 'SELECT v, pg_sleep(600) FROM t WHERE id = 1';
our $large = "SELECT id, g, v || repeat('x', 990) FROM t, generate_series(1, 20000) g WHERE id = 1";

# What no output may have.
our $secret = 'tr0ub4dor-';
our $room = 20;
our ($primary, $standby, $second, $other, $major, $at_standby, $token);

# Who says which password to whom:  app the right one, wrong a wrong one, bare
# none, empty an empty one, trusted one that nobody asks for, waived none where a
# superuser has said that none is required, weak that of strong, unmapped has no
# mapping but where PUBLIC has one.
our @roles = qw(app wrong bare empty trusted waived weak strong unmapped full);

# Returns when all is made, and replay stands still.
sub server_nodes
{
	($primary, $standby, $second) = new_cluster(
		standbys => 2,
		conf => qq{
max_connections = $room
max_wal_senders = 10
tcs.max_wait = 0
tcs.redirect_after = 0
tcs.redirect_timeout = '60s'
});
	$other = new_primary('other', conf => "max_connections = 20\n");
	$major = server_version($primary);

	$other->safe_psql('postgres',
		q{CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'foreign')});

	$primary->safe_psql('postgres', 'CREATE DATABASE elsewhere');
	$primary->safe_psql('elsewhere',
		q{CREATE EXTENSION tcs; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'elsewhere')});
	$primary->safe_psql('postgres', 'CREATE DATABASE plain');
	redirect_to($primary);
	$primary->safe_psql(
		'postgres',
		"SET log_statement = 'none';\n"
		  . "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old');\n"
		  . "GRANT SELECT ON t TO PUBLIC;\n"
		  . join('', map { "CREATE ROLE $_ LOGIN PASSWORD '$secret$_';\n" } @roles)
		  . "CREATE USER MAPPING FOR app SERVER tcs_primary OPTIONS (password '${secret}app');\n"
		  . "CREATE USER MAPPING FOR full SERVER tcs_primary OPTIONS (password '${secret}full');\n"
		  . "CREATE USER MAPPING FOR wrong SERVER tcs_primary OPTIONS (password '${secret}not-it');\n"
		  . "CREATE USER MAPPING FOR bare SERVER tcs_primary;\n"
		  . "CREATE USER MAPPING FOR empty SERVER tcs_primary OPTIONS (password '');\n"
		  . "CREATE USER MAPPING FOR trusted SERVER tcs_primary OPTIONS (password '${secret}trusted');\n"
		  . "CREATE USER MAPPING FOR waived SERVER tcs_primary OPTIONS (password_required 'false');\n"
		  . "CREATE USER MAPPING FOR weak SERVER tcs_primary OPTIONS (user 'strong', password '${secret}strong');\n"
		  . create_server('to_standby', options_of($second))
		  . create_server('to_any_standby', options_of($second, q{target_session_attrs 'any'}))
		  . create_server('to_itself', options_of($standby))
		  . create_server('to_itself_any', options_of($standby, q{target_session_attrs 'any'}))
		  . create_server('to_other', options_of($other))
		  . create_server('to_elsewhere', options_of($primary, q{dbname 'elsewhere'}))
		  . create_server('to_plain', options_of($primary, q{dbname 'plain'}))
		  . create_server('to_nowhere', options_of($primary, q{dbname 'nowhere'}))
		  . create_server('to_nobody', sprintf(q{host '%s', port '1'}, $primary->host))
		  . create_server('with_options', options_of($primary, q{options '-c search_path=nowhere -c default_transaction_read_only=on'}))
		  . create_server('moving', options_of($primary))
		  . "CREATE SERVER for_all FOREIGN DATA WRAPPER tcs_fdw OPTIONS (" . options_of($primary) . ");\n"
		  . "CREATE USER MAPPING FOR PUBLIC SERVER for_all OPTIONS (user 'strong', password '${secret}strong');\n"
		  . "CREATE SERVER as_app FOREIGN DATA WRAPPER tcs_fdw OPTIONS (" . options_of($primary) . ");\n"
		  . "CREATE USER MAPPING FOR CURRENT_USER SERVER as_app OPTIONS (user 'app', password '${secret}app');\n"
		  . "CREATE FOREIGN DATA WRAPPER nothing;\n"
		  . "CREATE SERVER of_nothing FOREIGN DATA WRAPPER nothing;\n"
		  . "CREATE USER MAPPING FOR CURRENT_USER SERVER of_nothing;\n"
	);
	wait_for_replay($primary, $_) foreach ($standby, $second);

	# The primary asks these for their passwords; the standbys ask nobody.
	my @hba = (
		(map { "local all $_ scram-sha-256" } grep { $_ !~ /^(trusted|waived)$/ } @roles),
		'local all all trust',
		'local replication all trust');

	set_hba($primary, 'SELECT count(*) = ' . scalar(@hba) . ' FROM pg_hba_file_rules', @hba, '');

	$at_standby = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
	part();
	return;
}

# OPTIONS of a server that is the node.
sub options_of
{
	my ($node, @more) = @_;

	return join ', ', sprintf("host '%s', port '%s'", $node->host, $node->port), @more;
}

# SQL that makes a server and a mapping for who runs the test.
sub create_server
{
	my ($name, $options) = @_;

	return "CREATE SERVER $name FOREIGN DATA WRAPPER tcs_fdw OPTIONS ($options);\n"
	  . "CREATE USER MAPPING FOR CURRENT_USER SERVER $name;\n";
}

# Begins a part: rows of the primary are new, those of the standby old.  Statements
# that were given are known to both.
sub part
{
	my ($sql) = @_;

	resume_replay($standby);
	$primary->safe_psql('postgres', "UPDATE t SET v = 'old';" . ($sql // ''));
	wait_for_replay($primary, $standby);
	pause_replay($standby);
	$token = write_token($primary, q{UPDATE t SET v = 'new'});
	return;
}

# The last of some results as text: rows, or SQLSTATE, message and detail.
sub answer_of
{
	return TcsWire::describe_result($_[-1]);
}

# Columns of tcs.stat_redirects on the standby.
sub redirects
{
	my ($columns) = @_;

	return $at_standby->ok_query("SELECT $columns FROM tcs.stat_redirects");
}

# Checks of a read that must not be redirected; options are those of redirect_session.
sub check_refused
{
	my ($what, $reason, %opt) = @_;
	my $client = redirect_session($standby, $token, %opt);

	like(described($client, $read), qr/^TC001: .*not redirected: .*$reason/, "$what: the next step, with the reason");
	is(described($client, "SET tcs.fallback = 'redirect, eventual'; $read"),
		'old', '... which may be a weaker level');
	is($client->status, 'I', '... and the session lives');
	$client->disconnect;
	return;
}

# Changes a setting of the standby by its file, and waits until it is in force.
sub configure_standby
{
	my ($name, $value) = @_;

	$standby->append_conf('postgresql.conf', "$name = $value\n");
	$standby->reload;
	$at_standby->poll("SELECT setting = '$value' FROM pg_settings WHERE name = '$name'")
	  or die "$name was not read";
	return;
}

# Waits until the standby has so many processes on the primary, and returns their
# pids.
sub remote_pids
{
	my ($count) = @_;

	$primary->poll_query_until('postgres',
		"SELECT count(*) = $count FROM pg_stat_activity WHERE application_name = 'tcs'")
	  or die "never $count connections";
	return $primary->safe_psql('postgres',
		q{SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity WHERE application_name = 'tcs'});
}

# Checks: no server of the cluster has logged a password.  Call it when all else is
# done.
sub no_password_logged
{
	# statements of the test itself are not what is looked for
	foreach my $node ($primary, $standby, $second)
	{
		my @lines = grep { /$secret/ && !/ (SERVER|LOG:  statement:)/ } split /\n/, slurp_file($node->logfile);

		is(scalar(@lines), 0, 'no password in the log of ' . $node->name) or diag(@lines);
	}
	return;
}

1;
