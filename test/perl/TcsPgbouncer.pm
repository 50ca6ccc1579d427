# test/perl/TcsPgbouncer.pm
#
# PgBouncer, where it is installed: which one, and one that runs.

package TcsPgbouncer;

use strict;
use warnings;

use Exporter 'import';
use File::Spec;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(need_pgbouncer has_pgbouncer run_pgbouncer);

my ($program, $version);

# The version of PgBouncer.  Skips the whole test where it is not installed.
sub need_pgbouncer
{
	($program) = grep { -x } map { "$_/pgbouncer" } File::Spec->path, '/usr/sbin';
	plan skip_all => 'pgbouncer is not installed: pgbouncer' if !$program;
	($version) =
	  (run_command([ $program, '--version' ]))[0] =~ /^PgBouncer (\d+\.\d+)/
	  or die "$program does not say its version";
	note("PgBouncer $version");
	return $version;
}

# Is it PgBouncer 1.$minor or later?
sub has_pgbouncer
{
	my ($minor) = @_;
	my ($first, $second) = split /\./, $version;

	return $first >= 2 || $second >= $minor;
}

# Starts it with $dir/pgbouncer.ini, and returns when it listens, at $dir and $port.
# The result is that of IPC::Run.  Its log is named $name.
sub run_pgbouncer
{
	my ($dir, $port, $name) = @_;
	my $run = IPC::Run::start([ $program, "$dir/pgbouncer.ini" ],
		'<', \undef, '>&', "$PostgreSQL::Test::Utils::log_path/$name.log");

	# It makes its socket when it is ready.
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return $run if -S "$dir/.s.PGSQL.$port";
		last if !$run->pumpable;
		$run->pump_nb;
		select(undef, undef, undef, 0.1);
	}
	$run->kill_kill(grace => 10);
	die "$name: PgBouncer did not start";
}

1;
