# test/perl/TcsTest.pm
#
# What nearly every TAP test of tcs needs: a primary with standbys that all
# have the library, a token from a write, a read with settings in front of it,
# the SQLSTATE of a statement, replay that stands still, a read in the
# background while the test does something else.
#
# A test starts like this:
#
#     use strict;
#     use warnings;
#     use PostgreSQL::Test::Cluster;
#     use PostgreSQL::Test::Utils;
#     use Test::More;
#     use FindBin;
#     use lib "$FindBin::RealBin/../perl";
#     use TcsTest;
#
#     my ($primary, $standby) = new_pair();
#     my $token = write_token($primary, 'INSERT INTO t VALUES (1)');
#     is(read_at($standby, 'SELECT count(*) FROM t', token => $token), '1');
#     done_testing();
#
# Works with the PostgreSQL::Test modules of 15 to 19.  Nothing here sleeps;
# everything polls until the state is there or the modules' own timeout
# (PG_TEST_TIMEOUT_DEFAULT) is over, and then dies.

package TcsTest;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsToken;

our @EXPORT = qw(
  new_primary new_standby new_pair new_cluster
  write_token with_check_digits token_with run_sql read_at psql_err sqlstate_of
  start_read read_running finish_read cancel_read
  pause_replay resume_replay current_lsn replay_lsn wait_for_replay
  set_quorum stop_receiver continue_receiver
  wait_for_answer wait_for_waiters
  log_position log_since wait_for_log_line
  redirect_to server_version build_module);

# Settings of every node.  shared_buffers and max_connections of the modules
# are too small for tests with many sessions.  Autovacuum would write WAL at
# moments the test did not choose.  Each question of a standby's worker is a
# replication command, and would fill the logs.  WAL is kept: the checkpoint of
# the next standby's base backup would remove what the one before, just started
# and without a slot, has not fetched yet.
my $base_conf = q{
log_replication_commands = off
max_connections = 100
max_wal_senders = 20
max_prepared_transactions = 10
wal_keep_size = 1GB
shared_buffers = 16MB
autovacuum = off
checkpoint_timeout = 1h
};

# Start-up options of this module's own sessions: those that only look at a
# node must not be held by a level that the test has made the node's default.
my $look = '-c tcs.read_level=eventual';


##
## Nodes
##

# new_primary($name, preload => 1, extension => 1, conf => '', init => {})
#
# A started primary that standbys can be made from.  preload => 0 starts it
# without the library, extension => 0 leaves out CREATE EXTENSION (in database
# postgres), conf is added to postgresql.conf, init goes to Cluster->init.
sub new_primary
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1, %{ $opt{init} // {} });
	$node->append_conf('postgresql.conf', $base_conf . _preload(%opt));
	$node->append_conf('postgresql.conf', $opt{conf}) if defined $opt{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION tcs')
	  if $opt{extension} // $opt{preload} // 1;
	return $node;
}

# new_standby($upstream, $name, preload => 1, conf => '', start => 1)
#
# A streaming standby of $upstream, which may be a standby itself (cascading).
# Its application_name upstream is $name.  Returns when it has replayed what
# upstream had, unless start => 0.
sub new_standby
{
	my ($upstream, $name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $backup = "for_$name";

	$upstream->backup($backup);
	$node->init_from_backup($upstream, $backup, has_streaming => 1);
	$node->append_conf('postgresql.conf', _preload(%opt));
	$node->append_conf('postgresql.conf', $opt{conf}) if defined $opt{conf};
	if ($opt{start} // 1)
	{
		$node->start;
		wait_for_replay($upstream, $node);
	}
	return $node;
}

# new_cluster(standbys => 2, conf => '', primary_conf => '',
#             standby_conf => '' or ['', ''], preload => 1, extension => 1)
#
# ($primary, @standbys), all started and caught up, named primary, standby1,
# standby2, ...  conf goes to every node.
sub new_cluster
{
	my (%opt) = @_;
	my $count = delete $opt{standbys} // 2;
	my $conf = delete $opt{conf} // '';
	my $primary_conf = delete $opt{primary_conf} // '';
	my $standby_conf = delete $opt{standby_conf} // '';
	my $prefix = delete $opt{prefix} // '';
	my @standbys;

	my $primary = new_primary("${prefix}primary", %opt,
		conf => "$conf\n$primary_conf");

	foreach my $i (1 .. $count)
	{
		my $own =
		  ref $standby_conf ? $standby_conf->[ $i - 1 ] // '' : $standby_conf;

		push @standbys,
		  new_standby($primary, "${prefix}standby$i", %opt,
			conf => "$conf\n$own");
	}
	return ($primary, @standbys);
}

# ($primary, $standby): new_cluster with one standby.
sub new_pair
{
	my (%opt) = @_;

	return new_cluster(%opt, standbys => 1);
}

# A standby's postgresql.conf begins as a copy of its primary's, so the line
# is written in both cases, and the last one counts.
sub _preload
{
	my (%opt) = @_;

	return $opt{preload} // 1
	  ? "shared_preload_libraries = 'tcs'\n"
	  : "shared_preload_libraries = ''\n";
}

# redirect_to($primary, options => "host 'x'", user => 'postgres')
#
# Makes the server that standbys redirect to, and a mapping for the role that
# runs the tests.
sub redirect_to
{
	my ($primary, %opt) = @_;
	my $options = $opt{options}
	  // sprintf("host '%s', port '%s'", $primary->host, $primary->port);

	$primary->safe_psql($opt{dbname} // 'postgres',
		"CREATE SERVER tcs_primary FOREIGN DATA WRAPPER tcs_fdw OPTIONS ($options);"
		  . 'CREATE USER MAPPING FOR CURRENT_USER SERVER tcs_primary');
}

# build_module($file, $source)
#
# Compiles a module for the server under test as $file, which must end in .so.  It
# is for the test alone: give its path to shared_preload_libraries.  Returns what
# the compiler has to complain about, '' if the module is there.
sub build_module
{
	my ($file, $source) = @_;
	my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
	my ($cc, $include) = map { scalar `$pg_config --$_` } qw(cc includedir-server);
	my $code = $file =~ s/\.so$/.c/r;
	my $out = '';

	chomp($include);
	PostgreSQL::Test::Utils::append_to_file($code, $source);
	IPC::Run::run([ (split ' ', $cc)[0], '-O', '-shared', '-fPIC', '-I', $include, '-o', $file, $code ],
		'>', \$out, '2>&1') and return '';
	return $out;
}

# Major version of the server under test, as a number: 15 .. 19.
sub server_version
{
	my ($node) = @_;

	return int(_look($node, 'SHOW server_version_num') / 10000);
}


##
## Statements
##

# Options of write_token, run_sql, read_at, psql_err and start_read:
#
#   dbname       database to connect to, default postgres
#   user         role to connect as
#   options      start-up options: "-c tcs.read_level=strong"
#   level, token, max_wait, max_staleness, max_lag, fallback
#                set in the session before the statements
#   set          { name => value } for any other setting
sub _settings
{
	my (%opt) = @_;
	my %set = %{ $opt{set} // {} };
	my $sql = '';

	$set{'tcs.read_level'} = $opt{level} if defined $opt{level};
	$set{'tcs.session_token'} = $opt{token} if defined $opt{token};
	foreach my $name (qw(max_wait max_staleness max_lag fallback))
	{
		$set{"tcs.$name"} = $opt{$name} if defined $opt{$name};
	}
	foreach my $name (sort keys %set)
	{
		my $value = $set{$name};

		$value =~ s/'/''/g;
		$sql .= "SET $name = '$value';\n";
	}
	return $sql;
}

sub _connstr
{
	my ($node, %opt) = @_;
	my $connstr = $node->connstr($opt{dbname} // 'postgres');

	$connstr .= " user=$opt{user}" if defined $opt{user};
	if (defined $opt{options})
	{
		my $options = $opt{options};

		$options =~ s/([\\'])/\\$1/g;
		$connstr .= " options='$options'";
	}
	return $connstr;
}

# (exit code, stdout, stderr) of the statements in one session, errors with
# their SQLSTATE.
sub run_sql
{
	my ($node, $sql, %opt) = @_;
	my ($ret, $stdout, $stderr);

	# A psql that cannot connect may be gone before it is given its input, which
	# kills the caller; it is asked again then.
	for (1 .. 10)
	{
		($stdout, $stderr) = ('', '');
		$ret = eval
		{
			$node->psql(
				$opt{dbname} // 'postgres',
				"\\set VERBOSITY verbose\n" . _settings(%opt) . "$sql\n;\n",
				connstr => _connstr($node, %opt),
				stdout => \$stdout,
				stderr => \$stderr,
				timeout => $PostgreSQL::Test::Utils::timeout_default,
				on_error_stop => $opt{on_error_stop} // 1);
		};
		last if defined $ret;
		die $@ if $@ !~ /Broken pipe/;
	}
	die $@ if !defined $ret;
	return ($ret, $stdout, $stderr);
}

# Output of the statements; dies when one fails.
sub read_at
{
	my ($node, $sql, %opt) = @_;
	my ($ret, $stdout, $stderr) = run_sql($node, $sql, %opt);

	croak $node->name . ": \"$sql\" failed: $stderr" if $ret != 0;
	return $stdout;
}

# Runs the statements and returns the token the same session then has: what
# the server reported at the last commit.
sub write_token
{
	my ($node, $sql, %opt) = @_;
	my $out = read_at($node, "$sql\n;\nSHOW tcs.session_token", %opt);

	return (split /\n/, $out)[-1] // '';
}

# SQLSTATE of the first error ('00000' when there was none, '08006' when the
# connection was refused or lost).  In list context also stderr and stdout.
sub psql_err
{
	my ($node, $sql, %opt) = @_;
	my ($ret, $stdout, $stderr) = run_sql($node, $sql, %opt);
	my $state = $ret == 0 ? '00000' : sqlstate_of($stderr);

	# psql exits with 2 without a SQLSTATE when it could not connect
	$state = '08006' if $ret != 0 && $state eq '';
	return wantarray ? ($state, $stderr, $stdout) : $state;
}

# SQLSTATE of the first error in text that psql printed with VERBOSITY verbose
# or sqlstate; '' without one.
sub sqlstate_of
{
	my ($text) = @_;

	return $1
	  if $text =~ /^(?:psql:\S*\s)?\s*(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5})\b/m;
	return '';
}

# Starts the statements in a session of their own and returns at once.  The
# result goes to read_running, finish_read, cancel_read.  A read that has to
# wait can be seen by wait_for_waiters.
sub start_read
{
	my ($node, $sql, %opt) = @_;
	my %read = (node => $node, stdout => '', stderr => '');

	# A server started meanwhile inherits our end of the pipe, so psql must not
	# depend on the end of its input.
	my $input =
		"\\set VERBOSITY verbose\n"
	  . "SELECT 'backend ' || pg_catalog.pg_backend_pid();\n"
	  . _settings(%opt)
	  . "$sql\n;\n\\q\n";

	$read{timer} = IPC::Run::timeout(
		$opt{timeout} // $PostgreSQL::Test::Utils::timeout_default);
	$read{run} = IPC::Run::start(
		[
			$node->installed_command('psql'),
			'-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', '-', '-d',
			_connstr($node, %opt)
		],
		'<', \$input,
		'>', \$read{stdout},
		'2>', \$read{stderr},
		$read{timer});

	# The session asks for its own number before any setting is in force.
	while ($read{stdout} !~ /^backend (\d+)\n/ && $read{run}->pumpable)
	{
		$read{run}->pump;
	}
	$read{pid} = $1 if $read{stdout} =~ s/^backend (\d+)\n//;
	return \%read;
}

# True while the statements of start_read have not ended.
sub read_running
{
	my ($read) = @_;

	# Once for what is in the pipes, once to learn that they are closed.
	foreach (1 .. 3)
	{
		return 0 if !$read->{run}->pumpable;
		$read->{run}->pump_nb;
	}
	return $read->{run}->pumpable ? 1 : 0;
}

# Waits for the end: stdout in scalar context, (SQLSTATE, stdout, stderr) in
# list context.
sub finish_read
{
	my ($read) = @_;

	$read->{run}->finish;

	my $state = sqlstate_of($read->{stderr});

	$state = $read->{run}->result(0) == 0 ? '00000' : '08006' if $state eq '';
	chomp(my $stdout = $read->{stdout});
	return wantarray ? ($state, $stdout, $read->{stderr}) : $stdout;
}

# pg_cancel_backend for a read of start_read.
sub cancel_read
{
	my ($read) = @_;

	return _look($read->{node}, "SELECT pg_cancel_backend($read->{pid})");
}


##
## Replay
##

# Replay stands still when this returns.
sub pause_replay
{
	my ($standby) = @_;

	_look($standby, 'SELECT pg_wal_replay_pause()');
	_poll($standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'")
	  or croak $standby->name . ": replay did not pause";
}

sub resume_replay
{
	my ($standby) = @_;

	_look($standby, 'SELECT pg_wal_replay_resume()');
}

# End of the WAL a node has: flushed (what can be shipped) on a primary,
# replayed on a standby.
sub current_lsn
{
	my ($node) = @_;

	return _look($node,
			'SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()'
		  . ' ELSE pg_current_wal_flush_lsn() END');
}

sub replay_lsn
{
	my ($standby) = @_;

	return _look($standby, 'SELECT pg_last_wal_replay_lsn()');
}

# Waits until $standby has replayed what $upstream has now, or $lsn.
#
# Cluster->wait_for_catchup looks at pg_stat_replication by application_name,
# and a standby with tcs can have two rows there.  This asks the standby.
sub wait_for_replay
{
	my ($upstream, $standby, $lsn) = @_;

	$lsn //= current_lsn($upstream);
	_poll($standby, "SELECT pg_last_wal_replay_lsn() >= '$lsn'")
	  or croak $standby->name . ": did not replay up to $lsn";
	return $lsn;
}

# Waits until $standby has an answer of the primary that it can use.
sub wait_for_answer
{
	my ($standby) = @_;

	_poll($standby, 'SELECT staleness IS NOT NULL FROM tcs.status')
	  or croak $standby->name . ": no answer from the primary";
}

# Waits until $count sessions (default 1) wait at $node.
sub wait_for_waiters
{
	my ($node, $count) = @_;

	$count //= 1;
	_poll($node, "SELECT waiting_sessions >= $count FROM tcs.status")
	  or croak $node->name . ": never had $count sessions waiting";
}

# Cluster->safe_psql and Cluster->poll_query_until, not held by the node's
# default level.
sub _look
{
	my ($node, $sql) = @_;

	local $ENV{PGOPTIONS} = $look;
	return $node->safe_psql('postgres', $sql);
}

sub _poll
{
	my ($node, $sql) = @_;

	local $ENV{PGOPTIONS} = $look;
	return $node->poll_query_until('postgres', $sql);
}


##
## Quorum
##

# Sets synchronous_standby_names, and returns when it is in force.  With $count,
# at least so many standbys count as synchronous by then.
#
# A session that the postmaster starts with the new value proves that all others
# have been told.
sub set_quorum
{
	my ($primary, $names, $count) = @_;

	$primary->append_conf('postgresql.conf', "synchronous_standby_names = '$names'");
	$primary->reload;
	_poll($primary, "SELECT current_setting('synchronous_standby_names') = '$names'")
	  or croak $primary->name . ": did not read its settings again";
	return if !$count;
	_poll($primary,
		    "SELECT count(*) >= $count FROM pg_stat_replication"
		  . " WHERE state = 'streaming' AND sync_state IN ('quorum', 'sync', 'potential')")
	  or croak $primary->name . ": has no $count synchronous standbys";
	return;
}

# Keeps standbys from receiving WAL and from confirming any, while their
# connection stays, and lets them go on.
my %stopped;

sub stop_receiver
{
	my (@standbys) = @_;

	foreach my $standby (@standbys)
	{
		_poll($standby, 'SELECT count(*) = 1 FROM pg_stat_wal_receiver')
		  or croak $standby->name . ": no WAL receiver";
		my $pid = _look($standby, 'SELECT pid FROM pg_stat_wal_receiver');

		kill('STOP', $pid) or croak "cannot stop process $pid: $!";
		$stopped{ $standby->name } = $pid;
	}
	return;
}

sub continue_receiver
{
	my (@standbys) = @_;

	foreach my $standby (@standbys)
	{
		my $pid = delete $stopped{ $standby->name };

		kill('CONT', $pid) if $pid;
	}
	return;
}

# Servers cannot be stopped otherwise.  Runs before the servers are, since the
# module that does that was compiled before.
END
{
	kill('CONT', values %stopped);
}


##
## Server log
##

# Where the log ends now; give it to log_since and wait_for_log_line.
sub log_position
{
	my ($node) = @_;

	return -s $node->logfile;
}

# What the server has logged since $position.
sub log_since
{
	my ($node, $position) = @_;

	return slurp_file($node->logfile, $position);
}

sub wait_for_log_line
{
	my ($node, $regexp, $position) = @_;

	return $node->wait_for_log($regexp, $position);
}

1;
