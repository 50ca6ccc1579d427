# test/t/745_docs_lint.pl
#
# The checks of the documentation in test/lint/docs.pl: each rule on a page with
# one violation, and none on a page that comes close to it.

use strict;
use warnings;

use File::Path qw(make_path);
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $lint = "$FindBin::RealBin/../lint/docs.pl";
my $folders = 0;

# What the checks say of these pages: { file => text }.
sub findings
{
	my (%pages) = @_;
	my $root = PostgreSQL::Test::Utils::tempdir() . '/' . ++$folders;

	make_path("$root/docs", "$root/src/a");
	append_to_file("$root/$_", $pages{$_}) foreach (keys %pages);

	my ($out, $err) = run_command([ $^X, $lint, $root ]);

	is($err, '', 'the checks run');
	return $out;
}

my $words = join ' ', ('word') x 35;

is(findings('README.md' => "$words.\n"), '', '35 words');
is(findings('README.md' => "\n$words more.\n"), 'README.md:2: sentence of 36 words', '36 words');
is(findings('docs/a.md' => join("\n", split / /, $words) . "\nmore.\n"), 'docs/a.md:1: sentence of 36 words', '... in many lines');
is(findings('docs/a.md' => "$words. $words.\n\n$words\n\n* $words\n* $words\n\n| $words | $words |\n"), '', 'sentences, items and cells end');
is(findings('docs/a.md' => "| x | $words more |\n"), 'docs/a.md:1: sentence of 36 words', '36 words in a cell');
is(findings('docs/a.md' => "```text\n$words $words\n```\n<!-- setup primary\n$words $words\n-->\n"), '', 'no prose in blocks and comments');
is(findings('docs/a.md' => "`$words` $words" =~ s/word$//r . ".\n"), '', 'code is one word');
foreach my $word ('whoever', 'lest', 'anew', 'in vain', 'so many')
{
	is(findings('docs/a.md' => "Text.\n\nIt waits $word.\n"), "docs/a.md:3: the word \"$word\"", "the word $word");
}
is(findings('src/a/b.c' => "x\n/* wait anew */\n"), "src/a/b.c:2: the word \"anew\"", 'in a comment of the sources');
is(findings('CONTRIBUTING.md' => "Lest.\n"), 'CONTRIBUTING.md:1: the word "lest"', 'with a capital, in CONTRIBUTING.md');
is(findings('docs/a.md' => "The latest lesson.\n"), '', 'not within other words');
is(findings('docs/a.md' => "Say `SET\nx`.\n"), "docs/a.md:1: code that goes on in the next line\ndocs/a.md:2: code that goes on in the next line", 'code in two lines');
is(findings('docs/a.md' => "[b](b.md)\n"), 'docs/a.md:1: no such file: b.md', 'a page that is not there');
is(findings('docs/a.md' => "[b](b.md#one)\n", 'docs/b.md' => "# Two\n"), 'docs/a.md:1: no such heading: b.md#one', 'a heading that is not there');
is(findings('docs/a.md' => "[b](b.md#the-one-with-tcs_x-2)\n[c](../README.md) [d](#a)\n\n## A\n", 'docs/b.md' => "# The one, with `tcs_x` (2)\n",
	'README.md' => "[a](docs/a.md#a) [web](https://example.org/x#y)\n"), '', 'pages and headings that are there');
is(findings('README.md' => "x\n" x 251), "README.md:1: sentence of 251 words\nREADME.md:251: more than 250 lines", '251 lines');
is(findings('README.md' => "\n" x 250), '', '250 lines');
done_testing();
