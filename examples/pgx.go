// pgx: write on the primary, read it back on a standby.
//
//	PRIMARY_URL=... STANDBY_URL=... go run pgx.go
//
// The token comes with the write, as ParameterStatus: asking the connection
// for it is no round trip.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v4"
)

func connect(ctx context.Context, variable string) *pgx.Conn {
	conn, err := pgx.Connect(ctx, os.Getenv(variable))
	if err != nil {
		log.Fatalf("%s: %v", variable, err)
	}
	return conn
}

func main() {
	ctx := context.Background()
	primary := connect(ctx, "PRIMARY_URL")
	standby := connect(ctx, "STANDBY_URL")

	var id int64
	err := primary.QueryRow(ctx, "INSERT INTO notes (body) VALUES ($1) RETURNING id",
		"hello from pgx").Scan(&id)
	if err != nil {
		log.Fatal(err)
	}
	token := primary.PgConn().ParameterStatus("tcs.session_token")
	fmt.Println("token:", token)

	// A batch is one message and one transaction.  SET takes no parameters;
	// set_config() does, and its "true" means SET LOCAL.
	batch := &pgx.Batch{}
	batch.Queue("SELECT set_config('tcs.session_token', $1, true)", token)
	batch.Queue("SELECT body FROM notes WHERE id = $1", id)
	results := standby.SendBatch(ctx, batch)
	if _, err = results.Exec(); err != nil {
		log.Fatal(err)
	}
	var body string
	err = results.QueryRow().Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		body = "no such row"
	} else if err != nil {
		log.Fatal(err)
	}
	fmt.Println("standby:", body)

	if err != nil || token == "" {
		os.Exit(1)
	}
}
