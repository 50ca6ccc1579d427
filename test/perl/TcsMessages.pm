# test/perl/TcsMessages.pm
#
# Messages of the frontend/backend protocol as a server sends them, each as a string
# of bytes.

package TcsMessages;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(message columns row report failure parameter);

# A message of a type, of its parts.
sub message
{
	my ($type, @parts) = @_;
	my $body = join('', @parts);

	return $type . pack('N', length($body) + 4) . $body;
}

# RowDescription: columns of [type, format].
sub columns
{
	my (@columns) = @_;

	return message('T', pack('n', scalar @columns),
		map { "c\0" . pack('NnNnNn', 0, 0, $_->[0], 0xffff, 0xffffffff, $_->[1]) } @columns);
}

# DataRow in text or binary; undef for NULL.
sub row
{
	my (@values) = @_;

	return message('D', pack('n', scalar @values),
		map { defined $_ ? pack('N', length $_) . $_ : pack('N', 0xffffffff) } @values);
}

# ErrorResponse or NoticeResponse.
sub report
{
	my ($type, %fields) = @_;

	return message($type, (map { "$_$fields{$_}\0" } sort keys %fields), "\0");
}

# ErrorResponse: an error that means nothing, but for the fields given.
sub failure
{
	return report('E', S => 'ERROR', V => 'ERROR', C => 'XX000', M => 'no', @_);
}

# ParameterStatus.
sub parameter
{
	my ($name, $value) = @_;

	return message('S', "$name\0$value\0");
}

1;
