#!/usr/bin/php
<?php
// PHP, PDO: write on the primary, read it back on a standby.
//
//     PRIMARY_URL='host=... dbname=...' STANDBY_URL='host=... dbname=...' ./pdo.php
//
// PDO has no access to ParameterStatus, so the token is asked for, which needs
// CREATE EXTENSION tcs.  Ask after the COMMIT: inside of the transaction there
// is no position yet that could stand for it.  (PDO takes keywords, not URLs.)

$primary = new PDO('pgsql:' . getenv('PRIMARY_URL'));
$standby = new PDO('pgsql:' . getenv('STANDBY_URL'));

$primary->beginTransaction();
$insert = $primary->prepare('INSERT INTO notes (body) VALUES (?) RETURNING id');
$insert->execute(['hello from PDO']);
$id = $insert->fetchColumn();
$primary->commit();
$token = $primary->query('SELECT tcs.session_token()')->fetchColumn();
echo "token: $token\n";

$standby->beginTransaction();
$standby->exec('SET LOCAL tcs.session_token = ' . $standby->quote($token));
$read = $standby->prepare('SELECT body FROM notes WHERE id = ?');
$read->execute([$id]);
$body = $read->fetchColumn();
$standby->commit();
echo 'standby: ', $body === false ? 'no such row' : $body, "\n";

exit($token && $body !== false ? 0 : 1);
