-- examples/levels.sql: a level for each kind of data of a shop
--
-- Run it on the primary: psql -f examples/levels.sql.  The application needs no
-- change; each statement gets the level of what it reads, on every node.
-- Commits to "password" and "balance" are refused (55000) unless the primary has
-- standbys in synchronous_standby_names.

CREATE TABLE IF NOT EXISTS password (login text PRIMARY KEY, hash text, changed timestamptz);
CREATE TABLE IF NOT EXISTS cart (customer int, item int, n int);
CREATE TABLE IF NOT EXISTS view_count (page int PRIMARY KEY, n bigint);
CREATE TABLE IF NOT EXISTS balance (account int PRIMARY KEY, amount numeric(12,2));
CREATE TABLE IF NOT EXISTS friend (person int, friend int);
CREATE TABLE IF NOT EXISTS sale (at timestamptz, amount numeric(12,2));

-- password change: whoever logs in, with whichever token, must meet the new one
SELECT tcs.set_rule('password', 'strong', floor => 'strong', reason => 'a password that was changed is not valid any more');
SELECT tcs.set_rule('password', 'quorum', operation => 'write', reason => 'a changed password survives the loss of the primary');

-- shopping cart: the customer's own, in the order in which it was filled
SELECT tcs.set_rule('cart', 'session', reason => 'a customer sees what he has put there');

-- view counter: any age, and nobody can make it cost more by default
SELECT tcs.set_rule('view_count', 'eventual', reason => 'nobody counts along');

-- bank balance: what one has seen, nobody may miss, not even after a failover; where
-- no quorum is set up that could confirm it, "strong" with a warning
SELECT tcs.set_rule('balance', 'linearizable', floor => 'strong', fallback => 'redirect, strong, error', reason => 'money');
SELECT tcs.set_rule('balance', 'strong', operation => 'write', reason => 'what was paid in is on every synchronous standby');

-- friend list: who adds a friend sees him there; others may see him later
SELECT tcs.set_rule('friend', 'read_your_writes', reason => 'own changes only');

-- analytics: a minute old at most, and rather so than on the primary
SELECT tcs.set_rule('sale', 'bounded', max_staleness => '1min', max_wait => '10s', fallback => 'error', reason => 'reports');
