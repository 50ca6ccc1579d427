# test/perl/TcsDocs.pm
#
# Runs the fenced blocks of a page of the documentation on a primary and a
# standby.  The word behind the language says where:
#
#     ```sql primary                   as superuser, in the page's own database
#     ```sql standby user=web          as role web, when the primary's WAL is replayed
#     ```sql both                      on the primary, then on the standby
#     ```sql standby error=TC001       the block must end with this SQLSTATE
#     ```sh                            by sh -e, in the root of the sources
#     ```sh dry                        lines of "make TARGET": the target must exist
#     ```conf primary|standby|both|all lines of postgresql.conf: the server must accept them
#     ```python [user=web]             a program; not run where its driver is not installed
#     ```text output                   what the block before must have printed
#     ```text                          a picture
#     ```LANGUAGE skip=REASON          not run; the test lists the reasons
#
# In an output, "..." stands for anything, and white space and lines of a table's
# frame do not count.  In a block, a token with "..." in it stands for the
# token that the page's last block on the primary got, and the host 'a,b,c' for
# the primary.  A comment "<!-- setup primary ... -->" is a block that readers do
# not see.

package TcsDocs;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;

use TcsTest;

our @EXPORT = qw(page_blocks run_page);

my $limit = $PostgreSQL::Test::Utils::timeout_default;

# page_blocks($text): the blocks in their order, each { line, lang, words, code,
# hidden }.
sub page_blocks
{
	my ($text) = @_;
	my (@blocks, $block, $indent);
	my $line = 0;

	foreach (split /\n/, $text)
	{
		$line++;
		if ($block)
		{
			if ($block->{hidden} ? /^-->$/ : /^\s*```\s*$/)
			{
				push @blocks, $block;
				undef $block;
			}
			else
			{
				$block->{code} .= s/^\Q$indent\E//r . "\n";
			}
		}
		elsif (/^(\s*)```(\S*)\s*(.*?)\s*$/)
		{
			$indent = $1;
			$block = { line => $line, lang => $2, words => [ split ' ', $3 ], code => '' };
		}
		elsif (/^<!-- setup\s+(.*?)\s*$/)
		{
			$indent = '';
			$block = { line => $line, lang => 'sql', words => [ split ' ', $1 ], code => '', hidden => 1 };
		}
	}
	push @blocks, { %$block, lang => 'no end' } if $block;
	return @blocks;
}

# run_page($text, %where): runs all blocks; returns a list of [ line, what it
# is, problem ], problem '' if there is none, and undef if the block is not run,
# with the reason as a fourth.
#
# %where: primary, standby, dbname, root (folder of the sources), reasons (hash
# of those for which a block need not be run).
sub run_page
{
	my ($text, %where) = @_;
	my @results;

	$where{ran} = undef;
	foreach my $block (page_blocks($text))
	{
		my $what = join ' ', $block->{lang}, @{ $block->{words} };
		my ($problem, $why) = eval { _run_block($block, \%where) };

		($problem, $why) = ("died: $@", undef) if $@;
		push @results, [ $block->{line}, $block->{hidden} ? "hidden $what" : $what, $problem, $why ];
	}
	return @results;
}

# Problem of one block, or (undef, reason).
sub _run_block
{
	my ($block, $where) = @_;
	my ($lang, @words) = ($block->{lang}, @{ $block->{words} });
	my %word = map { /^(\w+)=(.+)$/ ? ($1 => $2) : ($_ => 1) } @words;
	my $ran = delete $where->{ran};

	if (my $reason = delete $word{skip})
	{
		return "unknown reason \"$reason\"" if !$where->{reasons}{$reason};
		return (undef, $reason);
	}
	if ($lang eq 'text')
	{
		return _picture($block->{code}) if !@words;
		return 'unknown words' if "@words" ne 'output';
		return 'no block before it has been run' if !defined $ran;
		return (undef, $ran->{why}) if defined $ran->{why};
		return _compare($block->{code}, $ran->{output});
	}

	my %known = (
		sql => qr/^(primary|standby|both|user|error)$/,
		conf => qr/^(primary|standby|both|all)$/,
		sh => qr/^(dry)$/,
		python => qr/^(user)$/);

	return "unknown language \"$lang\"" if !$known{$lang};
	foreach (sort keys %word)
	{
		return "unknown word \"$_\"" if !/$known{$lang}/;
	}

	my ($problem, $output, $why) = {
		sql => \&_sql,
		conf => \&_conf,
		sh => \&_sh,
		python => \&_python
	}->{$lang}->($block, \%word, $where);

	$where->{ran} = { output => $output, why => $why } if defined $output || defined $why;
	return defined $why ? (undef, $why) : $problem;
}

# The nodes that a block is for.
sub _nodes
{
	my ($word, $where) = @_;

	return map { $where->{$_} }
	  grep { $word->{$_} || $word->{both} || $word->{all} } qw(primary standby);
}

# The standby has replayed what the page's blocks have done on the primary.
sub _caught_up
{
	my ($where) = @_;

	wait_for_replay($where->{primary}, $where->{standby}) if $where->{behind} // 1;
	$where->{behind} = 0;
}

sub _sql
{
	my ($block, $word, $where) = @_;
	my @nodes = _nodes($word, $where);
	my $code = _filled($block->{code}, $where);
	my $output = '';

	return 'neither "primary" nor "standby" nor "both"' if !@nodes;
	foreach my $node (@nodes)
	{
		my $mark = '-- what the session then has --';
		my $sql = "\\set ON_ERROR_STOP 1\n\\set VERBOSITY verbose\n\\pset footer off\n$code\n;\n";

		$sql .= "\\pset format unaligned\n\\pset tuples_only\n\\echo $mark\nSHOW tcs.session_token;\n"
		  if $node == $where->{primary};
		if ($node == $where->{standby}) { _caught_up($where) }
		else { $where->{behind} = 1 }

		my ($ok, $out) = _program([ 'psql', '-Xq', '-f', '-', '-d', _conninfo($node, $word, $where) ], $sql);
		my $state = $ok ? '00000' : sqlstate_of($out =~ s/^psql:<stdin>:\d+: //mgr);

		$where->{token} = $1 if $out =~ s/^\Q$mark\E\n(.*)\n?\z//m && $1 ne '';
		$out =~ s/^psql:<stdin>:\d+: //mg;
		$out =~ s/^LOCATION:.*\n//mg;
		return ($node->name . ": $state\n$out", $out) if $state ne ($word->{error} // '00000');
		$output .= $out;
	}
	return ('', $output);
}

# Lines are put at the end of postgresql.conf.  pg_file_settings tells whether the
# server would take them; one that needs a restart only has to exist.  Then they
# are taken away again.
sub _conf
{
	my ($block, $word, $where) = @_;

	foreach my $node (_nodes($word, $where))
	{
		my $file = $node->data_dir . '/postgresql.conf';
		my $before = slurp_file($file);

		append_to_file($file, "\n$block->{code}");

		my $from = ($before =~ tr/\n//) + 1;
		my ($ok, $out) = _program([ 'psql', '-XAtq', '-f', '-', '-d', _conninfo($node, {}, $where) ],
			"SELECT count(*) FROM pg_file_settings WHERE sourceline > $from AND sourcefile = current_setting('config_file');
			SELECT f.sourceline, f.name, f.setting, f.error FROM pg_file_settings f LEFT JOIN pg_settings s USING (name)
			WHERE f.sourceline > $from AND f.sourcefile = current_setting('config_file') AND f.error IS NOT NULL
			AND s.context IS DISTINCT FROM 'postmaster'");

		unlink $file;
		append_to_file($file, $before);
		return $node->name . ": $out" if !$ok || $out !~ /\A[1-9]\d*\n\z/;
	}
	return '';
}

sub _sh
{
	my ($block, $word, $where) = @_;
	my $code = _filled($block->{code}, $where);
	my $node = $where->{primary};

	local $ENV{MAKEFLAGS} = '';
	local $ENV{MAKELEVEL} = '';
	if ($word->{dry})
	{
		foreach my $line (grep { /\S/ } split /\n/, $code)
		{
			my $command = $line =~ s/\s*#.*//r;

			return "not a call of make: $line" if $command !~ /^(\w+=\S+ )*make( [-\w.=\/ "]+)?$/;
			$command =~ s/\bmake\b/make -n/;

			my ($ok, $out) = _program([ 'sh', '-ec', "cd '$where->{root}'; $command" ], '');

			return "$line: $out" if !$ok;
		}
		return '';
	}
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = $where->{dbname};
	local $ENV{PRIMARY_URL} = _url($where->{primary}, $word, $where);
	local $ENV{STANDBY_URL} = _url($where->{standby}, $word, $where);
	_caught_up($where);
	$where->{behind} = 1;

	my ($ok, $out) = _program([ 'sh', '-e' ], "cd '$where->{root}'\n$code");

	return ($ok ? '' : $out, $out);
}

sub _python
{
	my ($block, $word, $where) = @_;
	my ($driver) = $block->{code} =~ /^import (psycopg2?)$/m or return 'imports no driver';
	my ($python) = grep { (_program([ $_, '-c', "import $driver" ], ''))[0] } '/usr/bin/python3', 'python3';

	return ('', undef, "$driver is not installed") if !$python;
	local $ENV{PRIMARY_URL} = _url($where->{primary}, $word, $where);
	local $ENV{STANDBY_URL} = _url($where->{standby}, $word, $where);
	_caught_up($where);
	$where->{behind} = 1;

	my ($ok, $out) = _program([ $python, '-' ], $block->{code});

	return ($ok ? '' : $out, $out);
}

# (does it end well, all that it prints)
sub _program
{
	my ($command, $input) = @_;
	my $out = '';
	my $ok = eval
	{
		local $ENV{PGPASSWORD} = 'secret';
		IPC::Run::run($command, '<', \$input, '>&', \$out, IPC::Run::timeout($limit));
	};

	return (0, $@) if $@;
	return ($ok, $out);
}

sub _conninfo
{
	my ($node, $word, $where) = @_;

	return $node->connstr($where->{dbname}) . ($word->{user} ? " user=$word->{user}" : '');
}

sub _url
{
	my ($node, $word, $where) = @_;
	my $user = $word->{user} // getpwuid($>);

	return sprintf('postgresql:///%s?host=%s&port=%s&user=%s', $where->{dbname}, $node->host, $node->port, $user);
}

# What stands for something of the test's own cluster.
sub _filled
{
	my ($code, $where) = @_;
	my $primary = $where->{primary};
	my $token = $where->{token} // '';

	$code =~ s/\b1\.[0-9a-f.]+\.\.\.[0-9a-f]*/$token/g;
	$code =~ s/\Qpostgresql:\E\/\/(primary|standby)\.example:5432\/app\?user=me/_url($where->{$1}, {}, $where)/ge;
	$code =~ s/host 'a,b,c'/sprintf("host '%s', port '%s'", $primary->host, $primary->port)/ge;
	return $code;
}

# A picture must not hide a command.
sub _picture
{
	my ($code) = @_;

	return "a command in a picture: $1"
	  if $code =~ /^\s*((?:\$ |make |SELECT |SET |SHOW |ALTER |CREATE |UPDATE |INSERT |BEGIN|psql ).*)/m;
	return '';
}

# '' if what was printed is what the page shows.
sub _compare
{
	my ($want, $got) = @_;
	my ($w, $g) = map
	{
		join "\n", map { s/\s+/ /gr =~ s/^ | $//gr } grep { !/^[-+\s]*$/ } split /\n/, $_
	} $want, $got // '';
	my $pattern = join '.*', map { quotemeta } split /\s*\.\.\.\s*/, $w, -1;

	return $g =~ /\A$pattern\z/s ? '' : "printed instead:\n$g";
}

1;
