// Command peers is what the deployment in Docker talks to and is not asid-authz: the API,
// and the issuer of the tokens. It is also the health check of images that hold no other
// program.
//
//	peers api    -certificate F -key F -client-ca F -client-name NAME
//	peers issuer -certificate F -key F -directory DIR
//	peers probe  http://127.0.0.1:9901/ready
//	peers probe  redis://USER@127.0.0.1:6379 -certificate F -key F -ca F -name NAME -password F
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// files are the flags of every command.
type files struct {
	certificate, key     string
	ca, name             string
	clientCA, clientName string
	directory, password  string
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say api, issuer or probe")
	}
	var f files
	set := flag.NewFlagSet("peers "+args[0], flag.ContinueOnError)
	set.StringVar(&f.certificate, "certificate", "", "PEM `file` to show")
	set.StringVar(&f.key, "key", "", "PEM `file` of its key")
	set.StringVar(&f.ca, "ca", "", "PEM `file` that the server is verified against")
	set.StringVar(&f.name, "name", "", "DNS `name` that the server's certificate is for")
	set.StringVar(&f.clientCA, "client-ca", "", "PEM `file` that the client is verified against")
	set.StringVar(&f.clientName, "client-name", "", "DNS `name` of the one client")
	set.StringVar(&f.directory, "directory", "", "`directory` with discovery document and key set")
	set.StringVar(&f.password, "password", "", "`file` with the password")
	switch rest := args[1:]; args[0] {
	case "api":
		if err := set.Parse(rest); err != nil {
			return err
		}
		return f.serve(ctx, http.HandlerFunc(echo))
	case "issuer":
		if err := set.Parse(rest); err != nil {
			return err
		}
		return f.serve(ctx, documents(f.directory))
	case "probe":
		if len(rest) == 0 {
			return errors.New("probe: say what")
		}
		if err := set.Parse(rest[1:]); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return f.probe(ctx, rest[0])
	}
	return fmt.Errorf("%s is none of api, issuer and probe", args[0])
}
