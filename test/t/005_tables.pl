# test/t/005_tables.pl
#
# The pure stages of a read against their tables: what a level asks for, which
# level a statement gets, what a fallback comes to.  The tables are the .table
# files of test/modules/tcs_tables; README.md there has their format.  Each row
# is one check.
#
# The module is a copy of the stages, so the server needs no tcs.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my $folder = "$FindBin::RealBin/../modules/tcs_tables";
my @levels = qw(eventual consistent_prefix read_your_writes monotonic_reads session
  sequential causal bounded snapshot strong linearizable);

chomp(my $libraries = `pg_config --pkglibdir`);
plan skip_all => 'tcs_tables is not built, see test/modules/tcs_tables'
  unless -e "$libraries/tcs_tables.so";

# expand($cells) -> rows
#
# A cell with several values, a/b/c, stands for a row for each of them.
sub expand
{
	my ($cells) = @_;
	my @rows = ([]);

	foreach my $cell (@$cells)
	{
		my @values = $cell eq 'any' ? @levels : split m{/}, $cell;

		@rows = map { my $row = $_; map { [ @$row, $_ ] } @values } @rows;
	}
	return @rows;
}

# read_table($file) -> checks { name, facts, wanted }
sub read_table
{
	my ($file) = @_;
	my ($section, $fixed, @names, @checks) = ('', '');

	foreach my $line (split /\n/, slurp_file($file))
	{
		next if $line =~ /^#|^\s*$/;
		if ($line =~ /^== (.*?) ==$/)
		{
			($section, $fixed, @names) = ($1, '');
			next;
		}
		if ($line =~ /^with (.*)/)
		{
			$fixed = "$1 ";
			next;
		}

		my ($left, $right) = split /\s*=>\s*/, $line, 2;
		my @cells = split ' ', $left;

		die "no => in \"$line\"" unless defined $right;
		if (!@names)
		{
			@names = @cells;
			next;
		}
		die "not one value for each column: \"$line\"" unless @cells == @names;
		foreach my $row (expand(\@cells))
		{
			my $facts = join(' ', map { "$names[$_]=$row->[$_]" } 0 .. $#$row);
			my $wanted = join(' | ', split /\s*\|\s*/, $right);

			push @checks, { name => "$section: $facts", facts => "$fixed$facts", wanted => $wanted };
		}
	}
	return @checks;
}

my $node = new_primary('tables', preload => 0, extension => 0);

foreach my $file (sort glob("$folder/*.table"))
{
	my ($table) = $file =~ m{(\w+)\.table$};
	my @checks = read_table($file);

	# a function of the row, and one call for each
	my $sql = "CREATE FUNCTION tcs_table_$table(text) RETURNS text AS 'tcs_tables' LANGUAGE C STRICT;\n";

	$sql .= "SELECT tcs_table_$table(\$row\$$_->{facts}\$row\$);\n" foreach @checks;

	my (undef, $out, $err) = $node->psql('postgres', $sql, on_error_stop => 0);
	my @got = split /\n/, $out;

	subtest $table => sub {
		is($err, '', 'each row can be worked out');
		is(scalar @got, scalar @checks, 'each has a result');
		is($got[$_] // '', $checks[$_]->{wanted}, $checks[$_]->{name}) foreach 0 .. $#checks;
	};
}

done_testing();
