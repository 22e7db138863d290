package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// gpOne is the ASID of GP One.
const gpOne = "200000000117"

// clients are whom the user can play, and the case that their certificate and token are of.
var clients = []struct{ name, file string }{
	{"gp-one", "allow-read"},
	{"gp-two", "allow-create"},
}

// offer says how to make calls of one's own, keeps the tokens fresh, and waits until the user
// has had enough.
func (d *demo) offer(ctx context.Context) error {
	if err := d.refresh(); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(d.edge.Address)
	if err != nil {
		return err
	}
	authority := d.mesh.World.Authority
	curl := func(name, asid, more string) {
		fmt.Fprintf(d.w, `  curl -i --resolve %[1]s:%[2]s:127.0.0.1 --cacert public-ca.pem --cert %[3]s.pem --key %[3]s.key \
    -H "fromASID: %[4]s" -H "toASID: 999999999999" -H "authorization: Bearer $(cat %[3]s.jwt)" \
    %[5]shttps://%[1]s:%[2]s/STU3/DocumentReference/da2b6e8a-3c8f-11e8-baae-6c3be5a609f5
`, authority, port, name, asid, more)
	}
	fmt.Fprintf(d.w, "Calls of your own (the tokens are kept fresh):\n\n  cd %s\n", d.mesh.Path(""))
	fmt.Fprintln(d.w, "  # GP One reads")
	curl("gp-one", gpOne, "")
	fmt.Fprintln(d.w, "  # GP One says that it is GP Two, and asks for the answer in JSON")
	curl("gp-one", "200000000118", `-H "accept: application/fhir+json" `)
	fmt.Fprintln(d.w, "  # GP Two deletes")
	curl("gp-two", "200000000118", "-X DELETE ")
	holds := "change it, and it holds a second later"
	if d.redis != nil {
		d.offerCommands()
		holds = "change it and apply it, as above"
	}
	fmt.Fprintf(d.w, `
  map.yaml      who may do what: %s
  audit.jsonl   what was decided, and why
  authz-1.yaml  the configuration of asid-authz
  envoy-1.yaml  that of Envoy, as asid-authz envoy-config prints it
  http://%s/metrics

Ctrl-C ends it all.
`, holds, d.mesh.Replica().Admin)
	tick := time.NewTicker(time.Minute) // a token lives for five
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := d.refresh(); err != nil {
				return err
			}
		}
	}
}

// offerCommands says how to change the map in Redis, in another terminal.
func (d *demo) offerCommands() {
	fmt.Fprintf(d.w, `
Changes of your own, which the next call is decided by:

  cd %[1]s
  PATH=%[2]s:$PATH
  asid-authz map show --systems --redis publisher.yaml
  asid-authz map suspend %[3]s --reason "key lost" --redis publisher.yaml
  asid-authz map resume %[3]s --reason "new certificate" --redis publisher.yaml
  asid-authz map apply map.yaml --redis publisher.yaml
  asid-authz map history --redis publisher.yaml
  asid-authz map verify --redis publisher.yaml
`, d.mesh.Path(""), filepath.Dir(d.programs.Authz), gpOne)
}

// refresh writes the clients' certificates, and tokens of now.
func (d *demo) refresh() error {
	for _, client := range clients {
		c, err := d.find(client.file)
		if err != nil {
			return err
		}
		if err := d.writeClient(c, client.name); err != nil {
			return err
		}
	}
	return nil
}
