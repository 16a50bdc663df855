// Program ferretdb speaks MongoDB's protocol over a PostgreSQL that it runs itself as a child, so that a fault test kills
// or freezes the store as one tree of processes.
//
//	ferretdb -listen 127.0.0.1:27017 -postgresql postgres://... -- postgres -D folder ...
//
// It ends when asked to (SIGTERM, SIGINT), or with code 1 when its PostgreSQL ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:27017", "address to serve MongoDB's protocol on")
	url := flag.String("postgresql", "", "connection string of the PostgreSQL that the arguments start")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))

	if err := run(*listen, *url, flag.Args()); err != nil {
		slog.Error(err.Error())
		os.Exit(1)
	}
}

func run(listen, url string, command []string) error {
	if len(command) == 0 {
		return errors.New("no command that starts PostgreSQL: give it after --")
	}
	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	postgres := exec.Command(command[0], command[1:]...)
	postgres.Stdout, postgres.Stderr = os.Stdout, os.Stderr
	if err := postgres.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	running, ended := context.WithCancelCause(asked)
	gone := make(chan struct{})
	go func() {
		err := postgres.Wait()
		ended(fmt.Errorf("PostgreSQL ended: %v, %v", postgres.ProcessState, err))
		close(gone)
	}()

	err := serve(running, listen, url)
	if err == nil && asked.Err() == nil {
		err = context.Cause(running)
	}
	// Sessions are cut off and work is finished; signalling what has ended already is no error.
	_ = postgres.Process.Signal(syscall.SIGINT)
	<-gone
	return err
}

// serve waits for PostgreSQL and answers clients until ctx is done.
func serve(ctx context.Context, listen, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	for pool.Ping(ctx) != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	pool.Close()
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:      ferretdb.ListenerConfig{TCP: listen},
		Handler:       "postgresql",
		PostgreSQLURL: url,
	})
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
