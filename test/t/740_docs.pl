# test/t/740_docs.pl
#
# Every command in README.md, in docs/, in CONTRIBUTING.md and in examples/README.md:
# the fenced blocks are run on a primary and a standby, and must print what the
# pages show (how a block says where it runs is told in TcsDocs.pm).  A block that
# is not run has one of the reasons below, and there are few of them.  Then that
# each name that begins with tcs. exists, and that the pages of reference are
# complete.  Pages with a fault planted in them show that each check can fail.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsDocs;

my $root = "$FindBin::RealBin/../..";

# Why a block need not be run, and how many may have each reason.
my %reasons = (
	'pooler' => 'a configuration of PgBouncer; 730_pgbouncer.pl runs the files in examples/');
my $most = 2;

my ($primary, $standby) = new_pair(
	init => { extra => [ '--encoding=UTF8', '--locale=C' ] },
	conf => "tcs.max_wait = 60s\n");

# Role web has a password, as redirects want one that the primary has asked for.
foreach my $node ($primary, $standby)
{
	my $file = $node->data_dir . '/pg_hba.conf';
	my $lines = slurp_file($file);

	unlink $file;
	append_to_file($file, "local all web scram-sha-256\n$lines");
	$node->reload;
}
$primary->safe_psql('postgres', q{
CREATE ROLE web LOGIN PASSWORD 'secret';
CREATE ROLE counter LOGIN;
CREATE ROLE backup LOGIN;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
});
set_quorum($primary, 'ANY 1 (' . $standby->name . ')', 1);

my %where = (primary => $primary, standby => $standby, root => $root, reasons => \%reasons);
my $databases = 0;

# A page's blocks, in a database of its own.
sub try_page
{
	my ($text) = @_;
	my $dbname = 'page' . ++$databases;

	$primary->safe_psql('postgres', "CREATE DATABASE $dbname");

	# A page may begin on the standby.
	wait_for_replay($primary, $standby);

	my @results = run_page($text, %where, dbname => $dbname);

	$primary->safe_psql('postgres',
		'ALTER ROLE web RESET ALL; ALTER ROLE counter RESET ALL; ALTER ROLE backup RESET ALL');
	return @results;
}


##
## The pages
##

my @pages = ('README.md', 'CONTRIBUTING.md', 'examples/README.md', map { s,^\Q$root\E/,,r } sort glob "$root/docs/*.md");
my (%skipped, $run);
my $all = '';

foreach my $page (@pages)
{
	my $text = slurp_file("$root/$page");

	$all .= $text;
	foreach my $result (try_page($text))
	{
		my ($line, $what, $problem, $why) = @$result;

		is($problem // '', '', "$page:$line: $what" . (defined $why ? ", not run: $why" : ''));
		push @{ $skipped{$why} }, "$page:$line" if defined $why;
		$run++ if !defined $why;
	}
}
note("$run blocks run");
note("not run, $_: @{ $skipped{$_} }") foreach (sort keys %skipped);
cmp_ok($run, '>', 30, 'blocks were found');
foreach my $reason (sort keys %reasons)
{
	cmp_ok(scalar @{ $skipped{$reason} // [] }, '<=', $most, "not run, $reason: at most $most");
}


##
## Names and reference
##

my %objects = map { $_ => 1 } split /\n/, $primary->safe_psql('postgres', q{
SELECT name FROM pg_settings WHERE name ~ '^tcs\.'
UNION SELECT 'tcs.' || proname FROM pg_proc WHERE pronamespace = 'tcs'::regnamespace
UNION SELECT 'tcs.' || relname FROM pg_class WHERE relnamespace = 'tcs'::regnamespace
});

# Not SQL: files.
$objects{"tcs.$_"} = 1 foreach (qw(c control so pdf svg));
foreach my $name (sort keys %{ { map { $_ => 1 } $all =~ /\b(tcs\.[a-z_]+)/g } })
{
	ok($objects{$name}, "$name exists");
}

my $settings = slurp_file("$root/docs/settings.md");

foreach my $name (split /\n/, $primary->safe_psql('postgres', q{SELECT name FROM pg_settings WHERE name ~ '^tcs\.'}))
{
	ok($settings =~ /^\| `\Q$name\E` \|/m, "docs/settings.md has $name");
}

my $functions = slurp_file("$root/docs/functions-and-views.md");

# What everybody may call, and all views.
foreach my $name (split /\n/, $primary->safe_psql('postgres', q{
SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'tcs'::regnamespace
AND has_function_privilege('web', oid, 'EXECUTE') AND prorettype <> 'trigger'::regtype
UNION SELECT relname FROM pg_class WHERE relnamespace = 'tcs'::regnamespace AND relkind = 'v'
}))
{
	ok($functions =~ /`(CALL )?(tcs\.)?\Q$name\E\b/, "docs/functions-and-views.md has $name");
}

my $errors = slurp_file("$root/docs/errors.md");

ok($errors =~ /^\| `$_` \|/m, "docs/errors.md has $_")
  foreach (map { "TC00$_" } 1 .. 5);


##
## Each check can fail
##

sub fault
{
	my ($name, $text, $problem) = @_;

	like(join("\n", map { $_->[2] // '' } run_page($text, %where, dbname => 'postgres')), $problem, "found: $name");
}

fault('a wrong command', "```sql primary\nSELECT tcs.no_such();\n```\n", qr/42883/);
fault('a write on a standby', "```sql standby\nCREATE TABLE x (i int);\n```\n", qr/25006/);
fault('an error that does not come', "```sql primary error=TC001\nSELECT 1;\n```\n", qr/00000/);
fault('another output', "```sql primary\nSELECT 1 AS one;\n```\n```text output\n one\n-----\n 2\n```\n", qr/printed instead:\none\n1/);
fault('an output of nothing', "```text output\n1\n```\n", qr/no block before/);
fault('a block that does not say where', "```sql\nSELECT 1;\n```\n", qr/neither/);
fault('an unknown language', "```perl\nprint 1;\n```\n", qr/unknown language/);
fault('a language that is missing', "```\nSELECT 1;\n```\n", qr/unknown language/);
fault('an unknown word', "```sql elsewhere\nSELECT 1;\n```\n", qr/unknown word/);
fault('an unknown reason', "```sql skip=lazy\nSELECT 1;\n```\n", qr/unknown reason/);
fault('a block without an end', "```sql primary\nSELECT 1;\n", qr/unknown language "no end"/);
fault('a target that does not exist', "```sh dry\nmake no-such-target\n```\n", qr/no-such-target/);
fault('a setting that does not exist', "```conf primary\ntcs.no_such = 1\n```\n", qr/no_such/);
fault('a value that is none', "```conf standby\ntcs.max_wait = 'soon'\n```\n", qr/max_wait/);
fault('a command in a picture', "```text\nSELECT 1;\n```\n", qr/a command in a picture/);
is_deeply([ map { $_->[2] } run_page("```sql primary\nSELECT 1 AS one;\n```\n```text output\n one\n-----\n   1\n```\n",
		%where, dbname => 'postgres') ],
	[ '', '' ], 'nothing is found where nothing is wrong');

done_testing();
