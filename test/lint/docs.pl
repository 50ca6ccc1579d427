#!/usr/bin/perl
# test/lint/docs.pl [FOLDER]: checks of the documentation, called by test/lint/run.
#
# Each finding is one line, `file:line: rule`; README.md in this folder says what
# each rule is for.  FOLDER is the root of the sources, by default the one that
# this file is in.  The manual is README.md, CONTRIBUTING.md, CHANGELOG.md, docs/ and
# examples/README.md; links are checked in all pages below the root.

use strict;
use warnings;

use FindBin;

my $root = shift // "$FindBin::RealBin/../..";
my $most_words = 35;
my $most_lines = 250;
my @words = ('whoever', 'whomever', 'lest', 'anew', 'in vain', 'so many', 'whence', 'wherein', 'thereof');

chdir $root or die "$root: $!\n";

sub found { my ($file, $line, $rule) = @_; print "$file:$line: $rule\n"; }

# The lines of a page, with what is not prose taken out: [ number, text ].
sub prose
{
	my ($file) = @_;
	my ($fence, $comment, @lines);

	open my $in, '<', $file or die "$file: $!\n";
	while (<$in>)
	{
		chomp;
		if ($comment) { $comment = 0 if /-->/; $_ = '' }
		elsif (!$fence && /^<!--/) { $comment = !/-->/; $_ = '' }
		elsif (/^\s*```/) { $fence = !$fence; $_ = '' }
		elsif ($fence) { $_ = '' }
		push @lines, [ $., $_ ];
	}
	close $in;
	return @lines;
}

# The name of a heading in a link, as GitHub makes it.
sub anchor
{
	my ($heading) = @_;

	$heading =~ s/\[([^]]*)\]\([^)]*\)/$1/g;
	$heading = lc $heading;
	$heading =~ s/[^\w\- ]//g;
	$heading =~ s/ /-/g;
	return $heading;
}

sub anchors
{
	my ($file) = @_;

	return { map { anchor($_->[1] =~ s/^#+\s+//r) => 1 } grep { $_->[1] =~ /^#+\s/ } prose($file) };
}

# Sentences of a page: [ number of the line that it begins in, text ].  A list
# item, a cell of a table and a paragraph begin one.
sub sentences
{
	my (@lines) = @_;
	my (@sentences, $from, $text);
	my $end = sub
	{
		push @sentences, map { [ $from, $_ ] } split /(?<=[.!?])\s+/, $text if defined $text;
		undef $text;
	};

	foreach (@lines)
	{
		my ($number, $line) = @$_;

		$line =~ s/`[^`]*`/code/g;
		$line =~ s/\[([^]]*)\]\([^)]*\)/$1/g;
		if ($line =~ /^\s*\|/)
		{
			$end->();
			foreach my $cell (split /\|/, $line)
			{
				($from, $text) = ($number, $cell);
				$end->();
			}
			next;
		}
		$end->() if $line =~ /^\s*$|^\s*([*-]|\d+\.)\s|^#/;
		next if $line =~ /^\s*$|^#/;
		if (defined $text) { $text .= " $line" }
		else { ($from, $text) = ($number, $line) }
	}
	$end->();
	return @sentences;
}

# Lines with an odd number of backquotes end within a piece of code, which goes
# on in the next line: such a page is hard to read, and to check.
my @manual = grep { -f } 'README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'examples/README.md', sort glob 'docs/*.md';
my @pages = (@manual, sort glob('*/README.md'), sort glob('*/*/README.md'));
my %seen;

@pages = grep { !$seen{$_}++ } @pages;

foreach my $file (@manual)
{
	foreach (sentences(prose($file)))
	{
		my ($line, $sentence) = @$_;
		my $count = () = $sentence =~ /[\w'’]*[A-Za-z0-9][\w'’.\/-]*/g;

		found($file, $line, "sentence of $count words") if $count > $most_words;
	}
	foreach (prose($file))
	{
		my ($line, $text) = @$_;

		foreach my $word (@words)
		{
			found($file, $line, "the word \"$word\"") if $text =~ /\b\Q$word\E\b/i;
		}
		found($file, $line, 'code that goes on in the next line') if (() = $text =~ /`/g) % 2;
	}
}

# Comments and messages of the sources: the same words.
foreach my $file (sort glob('src/*.[ch] src/*/*.[ch]'))
{
	open my $in, '<', $file or die "$file: $!\n";
	while (my $text = <$in>)
	{
		foreach my $word (@words)
		{
			found($file, $., "the word \"$word\"") if $text =~ /\b\Q$word\E\b/i;
		}
	}
	close $in;
}

if (-f 'README.md')
{
	my $lines = () = prose('README.md');

	found('README.md', $lines, "more than $most_lines lines") if $lines > $most_lines;
}

foreach my $file (@pages)
{
	my $folder = $file =~ s,[^/]*$,,r;

	foreach (prose($file))
	{
		my ($line, $text) = @$_;

		$text =~ s/`[^`]*`//g;
		while ($text =~ /\]\(([^)\s]+)\)/g)
		{
			my ($path, $anchor) = split /#/, $1, 2;

			next if $path =~ /^(https?|mailto):/;
			my $target = $path eq '' ? $file : "$folder$path";

			if (!-e $target) { found($file, $line, "no such file: $path") }
			elsif (defined $anchor && !anchors($target)->{$anchor}) { found($file, $line, "no such heading: $path#$anchor") }
		}
	}
}
